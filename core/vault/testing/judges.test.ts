/**
 * What MazeVault generates and derives, as programs see it that we did not write: OpenSSL, OpenSSH, wg, Apache's htpasswd;
 * and what these programs make, as MazeVault sees it. What this machine lacks is left out, and `npm test` says so.
 */
import { spawnSync } from "node:child_process";
import { chmodSync } from "node:fs";
import type { GeneratorSpec } from "../../../crds/secret.ts";
import { findPackage, testPackages } from "../../../lab/setup/packages.ts";
import { Judge } from "../../pki/testing/judge.ts";
import { type Program, programOf } from "../../pki/testing/judges/programs.ts";
import { Sensitive } from "../../sensitive.ts";
import { generate } from "../generate.ts";
import { renderTemplate } from "../template.ts";

const openssl: Program = { file: "openssl", env: {} };
const sshKeygen = programOf(findPackage(testPackages["openssh-client"]), "usr/bin/ssh-keygen");
const wg = programOf(findPackage(testPackages["wireguard-tools"]), "usr/bin/wg");
const htpasswd = programOf(findPackage(testPackages["apache2-utils"]), "usr/bin/htpasswd");

const judge = new Judge();
afterAll(() => judge.dispose());

/** What the program put out, on both outputs where it fails. */
function ask({ file, env }: Program, args: readonly string[], input = ""): { ok: boolean; output: string } {
  const options = { cwd: judge.folder, env: { ...process.env, LC_ALL: "C", ...env }, input, encoding: "utf8" } as const;
  const { status, stdout, stderr, error } = spawnSync(file, [...args], options);
  if (error !== undefined) throw error;
  return status === 0 ? { ok: true, output: stdout } : { ok: false, output: `${stdout}${stderr}` };
}

function run(program: Program, args: readonly string[], input = ""): string {
  const { ok, output } = ask(program, args, input);
  if (!ok) throw new Error(`${program.file} ${args.join(" ")}: ${output}`);
  return output;
}

const generated = async (spec: GeneratorSpec): Promise<string> => (await generate("key", spec)).revealText();
const derived = async (filter: string, key: string): Promise<string> =>
  (await renderTemplate("derived", `{{ key | ${filter} }}`, new Map([["key", new Sensitive(key)]]))).revealText();

let files = 0;
/** A new file of which ssh-keygen believes that only its owner can read it. */
function privateFile(content: string): string {
  files += 1;
  const name = judge.write(`private-${files}`, content);
  chmodSync(name, 0o600);
  return name;
}

describe("OpenSSL", () => {
  const kinds: readonly GeneratorSpec[] = [
    ...[2048, 3072, 4096].map((size): GeneratorSpec => ({ kind: "RSA", size })),
    ...[256, 384, 521].map((size): GeneratorSpec => ({ kind: "EC", size })),
    { kind: "Ed25519" },
  ];

  test.each(kinds)("finds the key of %j right, and derives the same public key", async (spec) => {
    const key = await generated(spec);
    const file = privateFile(key);
    expect(run(openssl, ["pkey", "-in", file, "-noout", "-check"])).toBe("Key is valid\n");
    expect(await derived("public_key", key)).toBe(run(openssl, ["pkey", "-in", file, "-pubout"]));
    expect(run(openssl, ["asn1parse", "-in", file])).toMatch(/INTEGER +:00\n/);
  });

  const made: Readonly<Record<string, readonly (readonly string[])[]>> = {
    "PKCS #8": [
      ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
      ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
      ["genpkey", "-algorithm", "ED25519"],
    ],
    "PKCS #1": [["genrsa", "-traditional", "2048"]],
    "SEC 1": [["ecparam", "-name", "prime256v1", "-genkey", "-noout"]],
  };
  const cases = Object.entries(made).flatMap(([form, list]) => list.map((args) => ({ form, args })));

  test.each(cases)("$form by openssl $args is read", async ({ args }) => {
    const key = run(openssl, args);
    expect(await derived("public_key", key)).toBe(run(openssl, ["pkey", "-pubout"], key));
  });
});

const sshKinds: readonly GeneratorSpec[] = [
  { kind: "SSH" },
  { kind: "SSH", algorithm: "RSA" },
  { kind: "SSH", algorithm: "RSA", size: 2048 },
  ...[256, 384, 521].map((size): GeneratorSpec => ({ kind: "SSH", algorithm: "ECDSA", size })),
];

if (sshKeygen !== undefined) {
  const keygen = sshKeygen;
  const fingerprintedAs: Readonly<Record<string, RegExp>> = {
    Ed25519: /^256 SHA256:\S+ .*\(ED25519\)\n$/,
    RSA: /^(2048|3072) SHA256:\S+ .*\(RSA\)\n$/,
    ECDSA: /^(256|384|521) SHA256:\S+ .*\(ECDSA\)\n$/,
  };
  /** `TYPE BASE64`, without comment and end of line. */
  const bare = (line: string): string => line.trim().split(" ").slice(0, 2).join(" ");

  describe("OpenSSH", () => {
    test.each(sshKinds)(
      "reads the key of %j, derives our public key, and signs what our line verifies",
      async (spec) => {
        // Whether a number begins with a zero byte is a matter of chance.
        const rounds = spec.algorithm === "RSA" ? 2 : 20;
        for (let round = 0; round < rounds; round += 1) {
          const key = await generated(spec);
          const file = privateFile(key);
          const line = await derived("ssh_public_key: 'anna@example.com'", key);
          expect(run(keygen, ["-y", "-P", "", "-f", file])).toBe(`${bare(line)}\n`);
          expect(run(keygen, ["-l", "-f", file])).toMatch(fingerprintedAs[spec.algorithm ?? "Ed25519"] ?? /^$/);
          if (round > 0) continue;
          const signers = judge.write("signers", `anna@example.com ${line}\n`);
          const signature = run(keygen, ["-Y", "sign", "-f", file, "-n", "test"], "text");
          const verify = ["-Y", "verify", "-f", signers, "-I", "anna@example.com", "-n", "test", "-s"];
          const saved = judge.write("text.sig", signature);
          expect(ask(keygen, [...verify, saved], "text").output).toMatch(/^Good "test" signature for anna@example.com/);
          expect(ask(keygen, [...verify, saved], "another").ok).toBe(false);
        }
      },
    );

    test("writes its file as we do, but for what is random", async () => {
      const file = privateFile(await generated({ kind: "SSH" }));
      const ours = Buffer.from(judge.run("sed", "-e", "/-----/d", file), "base64");
      // Changing the passphrase from none to none writes the file anew.
      run(keygen, ["-p", "-q", "-P", "", "-N", "", "-f", file]);
      const theirs = Buffer.from(judge.run("sed", "-e", "/-----/d", file), "base64");
      expect(judge.run("sed", "-n", "-e", "/-----/p", file)).toBe(
        "-----BEGIN OPENSSH PRIVATE KEY-----\n-----END OPENSSH PRIVATE KEY-----\n",
      );
      const check = 98;
      expect(theirs.subarray(0, check)).toEqual(ours.subarray(0, check));
      expect(theirs.subarray(check + 8)).toEqual(ours.subarray(check + 8));
    });

    const made: readonly (readonly string[])[] = [
      ["-t", "ed25519", "-N", ""],
      ["-t", "ed25519", "-N", "a passphrase"],
      ["-t", "rsa", "-b", "2048", "-N", ""],
      ["-t", "rsa", "-b", "2048", "-N", "", "-m", "PEM"],
      ["-t", "rsa", "-b", "2048", "-N", "", "-m", "PKCS8"],
      ["-t", "ecdsa", "-b", "521", "-N", ""],
      ["-t", "ecdsa", "-b", "256", "-N", "", "-m", "PEM"],
    ];
    test.each(made.map((args) => ({ args })))("what ssh-keygen $args makes is read", async ({ args }) => {
      files += 1;
      const file = judge.path(`theirs-${files}`);
      run(keygen, ["-q", ...args, "-C", "a comment", "-f", file]);
      const line = await derived("ssh_public_key: 'a comment'", judge.run("cat", file));
      expect(`${line}\n`).toBe(judge.run("cat", `${file}.pub`));
    });

    test.each<GeneratorSpec>([
      { kind: "RSA", size: 2048 },
      { kind: "EC", size: 384 },
    ])("finds the same line in the PEM of %j", async (spec) => {
      const key = await generated(spec);
      expect(run(keygen, ["-y", "-f", privateFile(key)])).toBe(`${await derived("ssh_public_key", key)}\n`);
    });
  });
}

if (wg !== undefined) {
  const tool = wg;
  test("wg derives the same public keys, of ours and of its own", async () => {
    for (let round = 0; round < 50; round += 1) {
      for (const key of [await generated({ kind: "WireGuard" }), run(tool, ["genkey"])]) {
        expect(`${await derived("wireguard_public_key", key)}\n`).toBe(run(tool, ["pubkey"], key));
      }
    }
  });
}

if (htpasswd !== undefined) {
  const tool = htpasswd;
  test.each([
    ["anna", "a password", 10],
    ["äöü@example.com", "ünïcode", 4],
    ["x", "y".repeat(72), 5],
  ] as const)("htpasswd verifies the line for %s, and no other password", async (user, password, cost) => {
    const file = judge.write("htpasswd", `${await derived(`htpasswd: '${user}', ${cost}`, password)}\n`);
    expect(ask(tool, ["-vb", file, user, password])).toMatchObject({ ok: true });
    expect(ask(tool, ["-vb", file, user, `${password.slice(0, -1)}!`]).output).toContain(
      "password verification failed",
    );
  });
}
