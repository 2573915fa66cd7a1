/**
 * The OCSP responder from outside: OpenSSL and curl as clients, certificates from manifests, PostgreSQL that goes away, a
 * responder that dies, and a database role that may read no key.
 */

import { randomInt } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { Pool } from "undici";
import type { KeySpec } from "../core/pki/key.ts";
import { parseOcspResponse } from "../core/pki/ocsp/response.ts";
import { parsePem } from "../core/pki/pem.ts";
import { mutate, pick, randomOf } from "../core/pki/testing/fuzz/mutation.ts";
import { ocspSamples, outcomeOf } from "../core/pki/testing/fuzz/ocsp.ts";
import { Judge } from "../core/pki/testing/judge.ts";
import { keyName, keySpecs } from "../core/pki/testing/judges/artefacts.ts";
import { ocspStatus } from "../core/pki/testing/judges/gnutls.ts";
import { ask as askProgram, curl, ocsptool } from "../core/pki/testing/judges/programs.ts";
import type { CertificateSpec } from "../crds/certificate.ts";
import type { OcspResponder, Operator } from "../lab/mazevault.ts";
import { LabPki } from "../lab/pki.ts";
import { until } from "../lab/poll.ts";
import { withClient } from "../lab/postgres/database.ts";
import { conditionOf, decoded, type KubernetesObject, scrape, startWorld, total, type World } from "./harness.ts";

const NAMESPACE = "shop";
const KIND = "certificate.mazevault.io";
const soon = { timeoutMs: 30_000, intervalMs: 20 };

let world: World;
let judge: Judge;
let operator: Operator;
let responder: OcspResponder;

beforeAll(async () => {
  judge = new Judge();
  world = await startWorld();
  const { mazevault } = world;
  operator = await mazevault.startOperator({ config: { pki: { baseUrl: mazevault.pkiUrl } } });
  await world.tenant(NAMESPACE);
  responder = await mazevault.startOcsp();
  await world.apply(rootManifest("root"));
  const issuer = await world.waitReady("clusterissuer.mazevault.io", "root");
  judge.write("root.pem", String(issuer.status?.caBundle));
  const answered = async () => openssl("-serial", "0x7f", "-url", responder.url).includes("0x7f: unknown");
  await until("the new CA is answered for", answered, soon);
});

afterAll(async () => {
  judge?.dispose();
  await world?.stop();
});

const rootManifest = (name: string, key: KeySpec = { algorithm: "ECDSA", size: 256 }): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "ClusterIssuer",
  metadata: { name },
  spec: {
    ca: { subject: { commonName: name }, key },
    policy: { profiles: ["Server"], dnsNames: ["*.{namespace}.svc"] },
    namespaces: { names: [NAMESPACE] },
  },
});

const manifest = (name: string, spec: Partial<CertificateSpec> = {}): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "Certificate",
  metadata: { name, namespace: NAMESPACE },
  spec: {
    secretName: `${name}-tls`,
    issuerRef: { kind: "ClusterIssuer", name: "root" },
    dnsNames: [`${name}.${NAMESPACE}.svc`],
    ...spec,
  },
});

/** Its file, as it was delivered. */
async function issue(name: string, spec: Partial<CertificateSpec> = {}): Promise<string> {
  await world.apply(manifest(name, spec));
  await world.waitReady(KIND, name, NAMESPACE);
  const certificate = decoded(await world.get("secret", `${name}-tls`, NAMESPACE))["tls.crt"] ?? "";
  return judge.write(`${name}.pem`, certificate);
}

const serialOf = ({ status }: KubernetesObject): string => String(status?.serialNumber);

async function revoke(
  name: string,
  reason: "keyCompromise" | "certificateHold",
  spec: Partial<CertificateSpec> = {},
): Promise<void> {
  const serialNumber = serialOf(await world.get(KIND, name, NAMESPACE));
  await world.apply(manifest(name, { ...spec, revocations: [{ serialNumber, reason }] }));
}

/** `openssl ocsp`, which sends a nonce and checks that it comes back unless it is told otherwise. */
const openssl = (...args: string[]): string =>
  judge.ask("openssl", "ocsp", "-issuer", "root.pem", "-CAfile", "root.pem", ...args).output;
const ask = (file: string, ...args: string[]): string => openssl(...args, "-cert", file, "-url", responder.url);

/** The SHA-1 of the key that answers now. */
async function signerOf({ url }: OcspResponder, file: string): Promise<string | undefined> {
  openssl("-cert", file, "-no_nonce", "-reqout", "request.der");
  const body = readFileSync(judge.path("request.der"));
  const response = await fetch(url, { method: "POST", body, headers: { "content-type": "application/ocsp-request" } });
  return parseOcspResponse(Buffer.from(await response.arrayBuffer())).basic?.responderKeyHash?.toString("hex");
}

test("a certificate says where it is answered for, and OpenSSL is satisfied with what it gets there", async () => {
  const file = await issue("orders");
  const url = judge.run("openssl", "x509", "-in", file, "-noout", "-ocsp_uri").trim();
  expect(url).toBe(`${world.mazevault.pkiUrl}/ocsp`);
  for (const args of [["-sha1"], ["-sha256"], ["-no_nonce"]]) {
    const output = openssl(...args, "-cert", file, "-url", url);
    expect(output).toContain("Response verify OK");
    expect(output).toContain(`${file}: good`);
    expect(output).not.toContain("WARNING");
  }
  expect(judge.ask("openssl", "verify", "-x509_strict", "-CAfile", "root.pem", file).output).toContain("OK");
});

test("what is revoked is revoked at once", async () => {
  const file = await issue("leaked");
  expect(ask(file)).toContain(`${file}: good`);
  await revoke("leaked", "keyCompromise");
  await until("it is revoked", async () => /: revoked[\s\S]*Reason: keyCompromise/.test(ask(file)), soon);
  expect(ask(file, "-no_nonce", "-sha256")).toContain(`${file}: revoked`);
});

if (curl !== undefined) {
  const able = curl;
  describe("by curl", () => {
    /** What it printed; throws unless the server was content. */
    const fetched = async (...args: string[]): Promise<string> => {
      const { ok, output } = await askProgram(able, ["--silent", "--show-error", "--fail", ...args]);
      if (!ok) throw new Error(`curl ${args.join(" ")}: ${output}`);
      return output;
    };
    /** A GET with the request in the path, as RFC 6960 A.1 has it; the answer's head. */
    const get = async (request: string, answer: string): Promise<string> => {
      const path = encodeURIComponent(readFileSync(judge.path(request)).toString("base64"));
      return fetched("--output", judge.path(answer), "--dump-header", "-", `${responder.url}/ocsp/${path}`);
    };

    test("a GET brings an answer that OpenSSL accepts, and that caches may keep", async () => {
      const file = await issue("get");
      openssl("-cert", file, "-no_nonce", "-reqout", "get.der");
      const headers = await get("get.der", "answer.der");
      expect(headers).toMatch(/^content-type: application\/ocsp-response\r?$/im);
      expect(headers).toMatch(/^cache-control: max-age=\d+, public, no-transform, must-revalidate\r?$/im);
      expect(openssl("-cert", file, "-respin", "answer.der")).toContain(`${file}: good`);
      const [, tag = ""] = /^etag: (\S+)\r?$/im.exec(headers) ?? [];
      const path = encodeURIComponent(readFileSync(judge.path("get.der")).toString("base64"));
      const conditional = ["--write-out", "%{http_code}", "--header", `If-None-Match: ${tag}`];
      expect(await fetched(...conditional, `${responder.url}/${path}`)).toBe("304");
    });

    test("the CRL and the CA that a certificate names are there, and OpenSSL reads them", async () => {
      const text = judge.run("openssl", "x509", "-in", "leaked.pem", "-noout", "-text");
      const [, crl = ""] = /URI:(\S+\.crl)/.exec(text) ?? [];
      const verify = async () => {
        await fetched("--output", judge.path("root.crl"), crl);
        const read = ["-inform", "DER", "-in", "root.crl", "-out", "crl.pem", "-CAfile", "root.pem"];
        expect(judge.run("openssl", "crl", ...read)).toContain("verify OK");
        const args = ["-crl_check", "-CRLfile", "crl.pem", "-CAfile", "root.pem", "leaked.pem"];
        return judge.ask("openssl", "verify", ...args).output;
      };
      await until("the CRL lists it", async () => (await verify()).includes("certificate revoked"), soon);
      const [, ca = ""] = /CA Issuers - URI:(\S+)/.exec(text) ?? [];
      await fetched("--output", judge.path("ca.cer"), ca);
      const given = judge.run("openssl", "x509", "-inform", "DER", "-in", "ca.cer");
      expect(judge.run("openssl", "x509", "-in", "root.pem")).toBe(given);
    });

    const rows = keySpecs.map((key) => [keyName(key), key] as const);
    test.each(rows)("good, revoked and on hold, signed with %s: by GET and POST", async (name, key) => {
      const issuer = name.toLowerCase();
      const ca = `${issuer}.pem`;
      await world.apply(rootManifest(issuer, key));
      judge.write(ca, String((await world.waitReady("clusterissuer.mazevault.io", issuer)).status?.caBundle));
      const issuerRef = { kind: "ClusterIssuer", name: issuer } as const;
      const cases = [
        { name: `${issuer}-good`, says: "good" },
        { name: `${issuer}-revoked`, reason: "keyCompromise", says: "revoked" },
        { name: `${issuer}-held`, reason: "certificateHold", says: "revoked" },
      ] as const;
      const files = await Promise.all(cases.map((each) => issue(each.name, { issuerRef })));
      for (const each of cases) if ("reason" in each) await revoke(each.name, each.reason, { issuerRef });
      for (const [index, { name, says, ...rest }] of cases.entries()) {
        const about = ["-issuer", ca, "-CAfile", ca, "-cert", files[index] ?? ""];
        const verdict = [`${files[index]}: ${says}`, ...("reason" in rest ? [`Reason: ${rest.reason}`] : [])];
        const isRight = ({ output }: { readonly output: string }) =>
          ["Response verify OK", ...verdict].every((text) => output.includes(text)) && !output.includes("WARNING");
        const posted = () => judge.ask("openssl", "ocsp", ...about, "-url", responder.url);
        await until(`${name} by POST`, async () => isRight(posted()), soon);
        judge.run("openssl", "ocsp", ...about, "-no_nonce", "-reqout", `${name}.req`);
        await get(`${name}.req`, `${name}.resp`);
        const read = judge.ask("openssl", "ocsp", ...about, "-no_nonce", "-respin", `${name}.resp`);
        expect({ ...read, right: isRight(read) }).toMatchObject({ ok: true, right: true });
        if (ocsptool === undefined) continue;
        const gnutls = await ocspStatus(ocsptool, ["--load-trust", judge.path(ca)], judge.path(`${name}.resp`));
        expect(gnutls).toBe(says);
      }
    });
  });
}

test("a serial number that was not issued is unknown; a certificate of another CA is none of its business", async () => {
  expect(openssl("-serial", "0x7f010203", "-url", responder.url)).toContain("0x7f010203: unknown");
  const other = await LabPki.open(judge.path("other"));
  const { certFile } = await other.issue("stranger", { commonName: "stranger", usage: "server" });
  expect(
    judge.ask("openssl", "ocsp", "-issuer", other.caFile, "-cert", certFile, "-url", responder.url).output,
  ).toContain("unauthorized (6)");
});

test("while PostgreSQL is away answers go on, and say good only of what is known", async () => {
  const [file, revoked] = [await issue("steady"), await issue("before")];
  await revoke("before", "keyCompromise");
  await until("it is revoked", async () => ask(revoked).includes("revoked"), soon);
  const { postgres } = world.lab;
  const readyz = async () => {
    const answer = await fetch(`http://127.0.0.1:${responder.httpPort}/readyz`);
    return { status: answer.status, text: await answer.text() };
  };
  await postgres.process.stop();
  try {
    await until("it has noticed", async () => (await readyz()).text.includes("from memory"), soon);
    expect((await readyz()).status).toBe(200);
    expect(total(await scrape(responder), "mazevault_ocsp_behind_seconds")).toBeGreaterThan(0);
    for (const args of [[], ["-no_nonce"]]) {
      expect(ask(file, ...args)).toContain(`${file}: good`);
      expect(ask(revoked, ...args)).toContain(`${revoked}: revoked`);
    }
    expect(openssl("-serial", "0x7f01", "-url", responder.url)).toContain("trylater (3)");
  } finally {
    await postgres.process.start();
  }
  const later = await issue("later");
  expect(ask(later)).toContain(`${later}: good`);
  await until("it is current", async () => (await readyz()).text.includes("answers: current"), soon);
  expect(responder.process.restarts).toBe(0);
});

test("one that is killed comes back with a new key and knows everything", async () => {
  const file = await issue("constant");
  const before = await signerOf(responder, file);
  await responder.process.kill();
  await responder.process.ready();
  // It is ready with the first of the CAs that have certified its key.
  const after = await until("the root has certified its key", () => signerOf(responder, file), soon);
  expect([before, after]).toEqual([expect.any(String), expect.any(String)]);
  expect(after).not.toBe(before);
  expect(ask(file)).toContain(`${file}: good`);
  expect(ask("leaked.pem")).toContain("leaked.pem: revoked");
});

test("replicas answer with keys of their own, and all of them learn of a revocation", async () => {
  const file = await issue("shared");
  const second = await world.mazevault.startOcsp({ name: "ocsp-2" });
  const keys = [await signerOf(responder, file), await signerOf(second, file)];
  expect(new Set(keys).size).toBe(2);
  await revoke("shared", "certificateHold");
  for (const { url } of [responder, second]) {
    const held = () => openssl("-cert", file, "-url", url).includes("Reason: certificateHold");
    await until("it is on hold", async () => held(), soon);
  }
  await world.apply(manifest("shared", { revocations: [] }));
  for (const { url } of [responder, second]) {
    const good = () => openssl("-cert", file, "-url", url).includes("shared.pem: good");
    await until("it is good again", async () => good(), soon);
  }
  await second.process.stop();
  expect(second.process.lastEnd).toBe("exited with 0");
});

test("what somebody takes back in the database stays revoked, and is told", async () => {
  const [file, other] = [await issue("edited"), await issue("meanwhile")];
  await revoke("edited", "keyCompromise");
  const [, url = ""] = /URI:(\S+\.crl)/.exec(judge.run("openssl", "x509", "-in", file, "-noout", "-text")) ?? [];
  // Not that of its status, which is the next one's by now.
  const serial = judge.run("openssl", "x509", "-in", file, "-noout", "-serial").trim().split("=").at(-1) ?? "";
  const isListed = async () => {
    writeFileSync(judge.path("edited.crl"), await (await fetch(url)).bytes());
    return judge.run("openssl", "crl", "-inform", "DER", "-in", "edited.crl", "-noout", "-text").includes(serial);
  };
  await until("the CRL lists it", isListed, soon);
  const edit = (change: string) =>
    world.sql(
      `UPDATE certificates SET ${change}, changed_transaction = pg_current_xact_id() WHERE encode(serial, 'hex') = $1`,
      [serial.toLowerCase()],
    );
  const issuerSays = (status: string, reason: string) =>
    world.waitFor("clusterissuer.mazevault.io", "root", undefined, (object) => {
      const condition = conditionOf(object, "Published");
      return condition?.status === status && condition.reason === reason;
    });
  const [row] = await world.sql<{ at: string }>(
    "SELECT revoked_at::text AS at FROM certificates WHERE encode(serial, 'hex') = $1",
    [serial.toLowerCase()],
  );
  await edit("revoked_at = NULL, revocation_reason = NULL");
  const contradicted = async () => total(await scrape(responder), "mazevault_ocsp_tampered") === 1;
  await until("the responder has noticed", contradicted, soon);
  for (const args of [[], ["-no_nonce"]]) expect(ask(file, ...args)).toContain("Reason: keyCompromise");
  await responder.process.kill();
  await responder.process.ready();
  // This CA may be the last to certify its new key.
  await until("it may answer for this CA", async () => !ask(file).includes("trylater"), soon);
  for (const args of [[], ["-no_nonce"]]) expect(ask(file, ...args)).toContain("Reason: keyCompromise");

  // The leader does not sign what it cannot trust; what is revoked meanwhile is answered all the same.
  await revoke("meanwhile", "keyCompromise");
  await until("it is revoked", async () => ask(other).includes("Reason: keyCompromise"), soon);
  await issuerSays("False", "TamperDetected");
  expect(total(await scrape(operator), "mazevault_pki_tampered_authorities")).toBe(1);
  await edit(`revoked_at = '${row?.at}', revocation_reason = 'keyCompromise'`);
  await issuerSays("True", "Available");
  await until("the responder has noticed", async () => !(await contradicted()), soon);
});

test("its role reads what is published and nothing else, and changes nothing but its own requests", async () => {
  const allowed = await withClient({ ...responder.database }, async (client) => {
    const { rows } = await client.query<{ name: string; privilege: string }>(
      `SELECT c.relname AS name, p.privilege FROM pg_class c
       JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'mazevault'
       CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p(privilege)
       WHERE c.relkind IN ('r', 'v', 'm', 'p', 'S')
         AND CASE WHEN c.relkind = 'S' THEN p.privilege IN ('SELECT', 'UPDATE') AND has_sequence_privilege(c.oid, p.privilege)
                  WHEN p.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
                  THEN has_any_column_privilege(c.oid, p.privilege) ELSE has_table_privilege(c.oid, p.privilege) END
       ORDER BY 1, 2`,
    );
    return rows.map(({ name, privilege }) => `${privilege} ${name}`);
  });
  expect(allowed).toEqual([
    "SELECT ocsp_authorities",
    "SELECT ocsp_certificates",
    "SELECT ocsp_crls",
    "INSERT ocsp_responders",
    "SELECT ocsp_responders",
  ]);
  // None of these has a key in it.
  const columns = await world.sql<{ column_name: string }>(
    "SELECT DISTINCT column_name FROM information_schema.columns WHERE table_schema = 'mazevault' AND table_name LIKE 'ocsp%'",
  );
  expect(columns.filter(({ column_name }) => /key|cipher|wrapped|sealed|envelope/.test(column_name))).toEqual([]);
  await withClient({ ...responder.database }, async (client) => {
    await client.query("SET search_path = mazevault");
    for (const refused of [
      "SELECT sealed_key FROM certificates",
      "SELECT wrapped_key FROM authority_generations",
      "SELECT ciphertext FROM entries",
      "SELECT * FROM audit",
      "UPDATE ocsp_responders SET certificate = ''",
      "INSERT INTO ocsp_responders (id, authority_id, generation, csr, certificate) SELECT gen_random_uuid(), authority_id, generation, '', certificate FROM ocsp_authorities",
      "SELECT revoke_certificate(1, gen_random_uuid(), '', now(), 'keyCompromise', NULL, 1, '', '[]')",
      "SELECT take_leadership('ocsp')",
    ]) {
      await expect(client.query(refused)).rejects.toMatchObject({ code: "42501" });
    }
  });
});

test("garbage ends at its own connection", async () => {
  const { port } = new URL(responder.url);
  const samples = ["\0\0\0\0", "POST / HTTP/1.1\r\n\r\n", `GET /${"/".repeat(9_000)} HTTP/1.1\r\nHost: a\r\n\r\n`];
  for (const bytes of samples) {
    await new Promise<void>((resolve, reject) => {
      const socket = connect(Number(port), "127.0.0.1", () => socket.end(bytes));
      socket.resume().once("close", () => resolve());
      socket.once("error", reject);
    });
  }
  const broken = Buffer.from("3051304f304d304b3049300906052b0e03021a05000414", "hex");
  for (let length = 0; length <= broken.length; length += 1) {
    const body = broken.subarray(0, length);
    const response = await fetch(responder.url, {
      method: "POST",
      body,
      headers: { "content-type": "application/ocsp-request" },
    });
    expect(response.status).toBe(200);
    expect(parseOcspResponse(Buffer.from(await response.arrayBuffer())).status).toBe("malformedRequest");
  }
  expect(ask("orders.pem")).toContain("orders.pem: good");
});

describe("mutated requests", () => {
  const { FUZZ_OCSP_REQUESTS = 3_000, FUZZ_SEED } = process.env;
  const count = Number(FUZZ_OCSP_REQUESTS);
  const seed = Number(FUZZ_SEED ?? randomInt(2 ** 31));
  const CONNECTIONS = 16;

  test(`${count} of them, seed ${seed}, are answered rightly, and the responder lives on`, async () => {
    const [root] = parsePem(readFileSync(judge.path("root.pem"), "utf8"), "root");
    const samples = ocspSamples(root?.der ?? Buffer.alloc(0));
    const random = randomOf(seed);
    const pool = new Pool(responder.url, { connections: CONNECTIONS });
    const { pid } = responder.process;
    let left = count;
    const lane = async (): Promise<void> => {
      for (; left > 0; left -= 1) {
        const body = mutate(pick(samples, random), random);
        const headers = { "content-type": "application/ocsp-request" };
        const answer = await pool.request({ method: "POST", path: "/", body, headers });
        const verdict = verdictOf(Buffer.from(await answer.body.arrayBuffer()));
        if (answer.statusCode !== 200 || !right[outcomeOf(body)].has(verdict))
          throw new Error(`${answer.statusCode}, ${verdict}: ${body.toString("hex")}`);
      }
    };
    try {
      await Promise.all(Array.from({ length: CONNECTIONS }, lane));
    } finally {
      await pool.close();
    }
    expect(responder.process.pid).toBe(pid);
    expect(ask("orders.pem")).toContain("orders.pem: good");
  });

  /** None of the serial numbers was issued, so there is nothing good to say of any. */
  const right: Readonly<Record<ReturnType<typeof outcomeOf>, ReadonlySet<string>>> = {
    read: new Set(["unknown", "unauthorized"]),
    malformedRequest: new Set(["malformedRequest"]),
    unauthorized: new Set(["unauthorized"]),
  };

  function verdictOf(response: Buffer): string {
    const { status, basic } = parseOcspResponse(response);
    return basic === undefined ? status : [...new Set(basic.responses.map((each) => String(each.status)))].join();
  }
});
