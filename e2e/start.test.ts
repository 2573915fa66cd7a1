/** `npm start` as a new user has it: start, the printed commands and the guides exactly as printed, killed children, stop, start again, begin anew. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { curl, nginx, type Program } from "../core/pki/testing/judges/programs.ts";
import { guideCommands, lookCommands, pkiCommands, restCommands } from "../lab/guide.ts";
import { resetLab } from "../lab/lab.ts";
import { until } from "../lab/poll.ts";
import { environmentOf, root, Started, shellIn, survivorsOf } from "./started.ts";

const dir = mkdtempSync(path.join(tmpdir(), "mazevault-start-"));
const labDir = path.join(dir, "lab");

const shell = (environment: string, command: string, cwd = root): Promise<string> =>
  shellIn(dir, environment, command, cwd);

let started: Started;
let environment: string;

afterAll(async () => {
  await started?.interrupt();
  // Of a guide that was not followed to its end.
  const nginxPid = path.join(dir, "guides", "nginx.pid");
  if (existsSync(nginxPid)) process.kill(Number(readFileSync(nginxPid, "utf8")));
  await resetLab(labDir);
  rmSync(dir, { recursive: true, force: true });
});

/** Lines of the table that do not say READY True; the samples alone are ten. */
function unready(table: string): string[] {
  const lines = table.split("\n").filter((line) => line.includes("mazevault.io/"));
  return lines.length < 10 ? ["too few resources"] : lines.filter((line) => !line.includes(" True "));
}

/** Waits for the guide and does all that it says, `user` being the one in the connection string so far. */
async function followGuide(user: string): Promise<void> {
  const guide = await started.guide();
  environment = environmentOf(guide);
  const [everything, describe, url, patch, restart] = guideCommands;
  const [vault, database] = lookCommands(labDir);
  const [, pkiUrl = ""] = /-url (\S+)\/ocsp$/m.exec(guide) ?? [];
  const pki = pkiCommands(dir, pkiUrl);
  for (const each of [...guideCommands, ...pki, ...restCommands, ...lookCommands(labDir)])
    expect(guide).toContain(`  ${each.command}\n`);
  const run = (each: { command: string } | undefined) => shell(environment, each?.command ?? "false");

  expect(unready(await run(everything))).toEqual([]);
  expect(await run(describe)).toContain("core Secret orders-db holds version");
  expect(await run(url)).toMatch(new RegExp(`^postgres://${user}:.{32,}@db:5432/orders\\n$`));
  await run(patch);
  await until("version 2 is delivered", async () => (await run(url)).startsWith("postgres://orders2:"), {
    timeoutMs: 30_000,
  });
  await until("the restart", async () => (await run(restart)).includes("restart.mazevault.io/orders-db"), {
    timeoutMs: 30_000,
  });
  const [files, good, revoke, revoked, urls] = pki;
  await run(files);
  expect(await run(good)).toContain("orders-tls.pem: good");
  await run(revoke);
  await until("it is revoked", async () => (await run(revoked)).includes("orders-tls.pem: revoked"), {
    timeoutMs: 30_000,
  });
  for (const path of ["/ocsp", "/crl/", "/ca/"]) expect(await run(urls)).toContain(`${pkiUrl}${path}`);
  const [token, login, put, get] = restCommands;
  expect(await run(token)).toMatch(/^\{"token":"[\w.-]+",/);
  await run(login);
  expect(await run(put)).toMatch(/payments\/mail +\d+ +password\n$/);
  expect(await run(get)).toMatch(/^[0-9a-f]{32}$/);
  expect(await shell(environment, "kubectl mazevault whoami -o json")).toContain("LocalUser admin@mazevault.com");
  expect(await run(vault)).toContain("OrdersDbPwd");
  expect(await run(database)).toMatch(/orders-db +\| +1 +\| password|orders-db .*password/);
}

test("the printed commands give what the guide says", async () => {
  started = new Started(dir);
  await followGuide("orders");
});

test("the README's first secret works as printed", async () => {
  const readme = readFileSync(path.join(root, "README.md"), "utf8");
  const block = /^```sh\n(kubectl create namespace[\s\S]*?)^```$/m.exec(readme)?.[1] ?? "false";
  expect(await shell(environment, `set -e\n${block}`)).toMatch(/\npostgres:\/\/shop:\S{32,}@db\/shop\n$/);
});

/**
 * What each command block of a guide prints in the end; that of a `later` one takes a moment to come. They go on in one
 * folder, one where the other ended.
 */
interface Block {
  readonly prints: RegExp;
  readonly later?: boolean;
}
const guides: readonly (readonly [name: string, needs: Readonly<Record<string, Program | undefined>>, Block[]])[] = [
  [
    "private-ca",
    {},
    [
      { prints: /example-root condition met\n.*bookshop-ca condition met\n$/ },
      { prints: /^subject=O = Example, CN = Example Root CA\nnotAfter=/ },
      { prints: /web condition met\n$/ },
      { prints: /^web.pem: OK\n$/ },
      { prints: /till condition met\ntill.pem: OK\n$/ },
      { prints: /\nspec\.dnsNames: "www\.bank\.example" is not allowed.*\n.*deleted/ },
    ],
  ],
  [
    "revoke",
    { curl },
    [
      { prints: /^serial=[0-9A-F]{36}\n[\s\S]*URI:http.*\.crl\n[\s\S]*OCSP - URI:http.*\/ocsp\n/ },
      { prints: /^leaked.pem: good\n/, later: true },
      { prints: /^leaked.pem: OK\n$/, later: true },
      { prints: /web condition met\n.*web condition met\n$/ },
      { prints: /^web.pem: good\n/, later: true },
      { prints: /^leaked.pem: revoked\n[\s\S]*Reason: keyCompromise\n/, later: true },
      { prints: /Serial Number: [0-9A-F]{36}\n[\s\S]*Key Compromise\n/, later: true },
    ],
  ],
  [
    "staple-with-nginx",
    { nginx },
    [
      { prints: /^$/ },
      { prints: /^OCSP response: no response sent\n$/ },
      { prints: /Cert Status: good\n[\s\S]*Verify return code: 0 \(ok\)\n$/, later: true },
      { prints: /^$/ },
      { prints: /^$/ },
    ],
  ],
];
/** `npm test` says which programs this machine lacks. */
const possible = guides.filter(([, needs]) => Object.values(needs).every((program) => program !== undefined));

test.each(possible)("docs/guides/%s.md works as printed", async (name, needs, expected) => {
  const folder = path.join(dir, "guides");
  mkdirSync(folder, { recursive: true });
  const guide = readFileSync(path.join(root, "docs/guides", `${name}.md`), "utf8");
  const blocks = [...guide.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, block = ""]) => block);
  expect(blocks).toHaveLength(expected.length);
  const strict = `${environment}\n${pathTo(needs)}\nset -euo pipefail`;
  for (const [index, { prints, later = false }] of expected.entries()) {
    const run = async () => {
      expect(await shell(strict, blocks[index] ?? "false", folder)).toMatch(prints);
      return true;
    };
    await (later ? until(`block ${index + 1} prints ${prints}`, run, { timeoutMs: 20_000 }) : run());
  }
});

/** Programs of packages that are unpacked and not installed need their libraries, and nothing else may get them. */
function pathTo(programs: Readonly<Record<string, Program | undefined>>): string {
  const folder = path.join(dir, "programs");
  mkdirSync(folder, { recursive: true });
  for (const [name, program] of Object.entries(programs)) {
    const settings = Object.entries(program?.env ?? {}).map(([key, value]) => `${key}="${value}"`);
    const line = `exec env ${settings.join(" ")} ${program?.file} "$@"`;
    writeFileSync(path.join(folder, name), `#!/bin/sh\n${line}\n`, { mode: 0o755 });
  }
  return `PATH="${folder}:$PATH"`;
}

test("after kill -9 of every child the commands still do", async () => {
  const processes = JSON.parse(readFileSync(path.join(labDir, "processes.json"), "utf8")) as unknown;
  const pids = [...JSON.stringify(processes).matchAll(/"pid":(\d+)/g)].map(([, pid]) => Number(pid));
  expect(pids.length).toBe(8);
  for (const pid of pids) process.kill(pid, "SIGKILL");
  const resources = guideCommands[0]?.command ?? "false";
  await until("everything is Ready again", async () => unready(await shell(environment, resources)).length === 0, {
    timeoutMs: 60_000,
  });
  await shell(environment, "kubectl -n payments annotate secrets.mazevault.io orders-db touched=1");
  await until(
    "a change is delivered",
    async () => {
      await shell(
        environment,
        `kubectl -n payments patch secrets.mazevault.io orders-db --type=json -p '[{"op":"replace","path":"/spec/entries/0/literal","value":"orders3"}]'`,
      );
      return (await shell(environment, guideCommands[2]?.command ?? "false")).startsWith("postgres://orders3:");
    },
    { timeoutMs: 60_000 },
  );
});

test("Ctrl-C leaves no process behind, and the next start goes on with the same data and ports", async () => {
  const ports = readFileSync(path.join(labDir, "ports.json"), "utf8");
  expect(await started.interrupt()).toBe(0);
  expect(await survivorsOf(labDir)).toBe("");
  const before = environment;
  started = new Started(dir);
  await followGuide("orders3");
  expect(environment).toBe(before);
  expect(readFileSync(path.join(labDir, "ports.json"), "utf8")).toBe(ports);
});

test("--reset begins anew: nothing of before is left, and the printed commands work again", async () => {
  const before = await identities();
  for (const found of before) expect(found).not.toEqual([]);
  expect(await started.interrupt()).toBe(0);
  started = new Started(dir, "--reset");
  await followGuide("orders");
  const old = new Set(before.flat());
  expect((await identities()).flat().filter((id) => old.has(id))).toEqual([]);
});

/** UUIDs of what stands in the cluster, in PostgreSQL and in the vault: made anew, each has others. */
function identities(): Promise<readonly string[][]> {
  const [vault] = lookCommands(labDir);
  const commands = [
    "kubectl get namespaces,secrets.mazevault.io -A -o jsonpath='{.items[*].metadata.uid}'",
    `npm run --silent psql -- --dir "${labDir}" "SELECT id FROM mazevault.secrets"`,
    vault?.command ?? "false",
  ];
  return Promise.all(
    commands.map(
      async (command) => (await shell(environment, command)).match(/[0-9a-f]{8}(-[0-9a-f]{4,12}){4}/g) ?? [],
    ),
  );
}
