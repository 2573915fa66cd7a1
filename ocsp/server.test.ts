import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { request as httpRequest, type IncomingHttpHeaders, type OutgoingHttpHeaders } from "node:http";
import { request as httpsRequest, type RequestOptions } from "node:https";
import { connect } from "node:net";
import { parseCrl } from "../core/pki/crl.ts";
import { pem } from "../core/pki/pem.ts";
import { Judge } from "../core/pki/testing/judge.ts";
import { party } from "../core/pki/testing/party.ts";
import { caCertificatePath, crlPath } from "../core/pki/urls.ts";
import type { AuthorityRecord, CertificateRecord } from "../core/ports/pki-store.ts";
import { actor } from "../core/ports/samples.ts";
import { LabPki } from "../lab/pki.ts";
import { until } from "../lab/poll.ts";
import { certIdOf, requestFor, verdictOf } from "./testing/asking.ts";
import { TestResponder } from "./testing/responder.ts";

const TYPE = { "content-type": "application/ocsp-request" };
const judge = new Judge();

let responder: TestResponder;
let root: AuthorityRecord;
let leaf: CertificateRecord;
let revoked: CertificateRecord;
let url: string;

beforeAll(async () => {
  responder = await TestResponder.start();
  const { pki } = responder;
  // OpenSSL knows no other time.
  pki.now = new Date();
  root = await pki.root();
  leaf = await pki.issue(root, "leaf");
  revoked = await pki.issue(root, "revoked");
  await pki.authorities.revoke(pki.writer, revoked, { reason: "superseded" }, actor);
  await responder.crls.publishDue(pki.writer, 10);
  await responder.caughtUp();
  url = await responder.serve();
  judge.write("root.pem", pem("CERTIFICATE", root.generations[0]?.certificate ?? Buffer.alloc(0)));
  judge.write("leaf.pem", pem("CERTIFICATE", leaf.certificate ?? Buffer.alloc(0)));
  judge.write("revoked.pem", pem("CERTIFICATE", revoked.certificate ?? Buffer.alloc(0)));
});
afterAll(async () => {
  await responder.stop();
  judge.dispose();
});

interface Received {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** Sends paths as they are given, unlike `fetch`. */
function send(
  method: string,
  path: string,
  { headers = {}, body, options = {} }: { headers?: OutgoingHttpHeaders; body?: Buffer; options?: RequestOptions } = {},
  to = url,
): Promise<Received> {
  return new Promise((resolve, reject) => {
    const { protocol, hostname, port } = new URL(to);
    const request = protocol === "https:" ? httpsRequest : httpRequest;
    const sent = request({ hostname, port, method, path, headers, agent: false, ...options }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) }),
      );
      response.on("error", reject);
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

const about = ({ serialNumber }: CertificateRecord, hash: "sha1" | "sha256" = "sha256") =>
  requestFor([certIdOf(root, serialNumber, hash)]);
const post = (body: Buffer, headers: OutgoingHttpHeaders = TYPE) => send("POST", "/", { headers, body });
const getPath = (der: Buffer) => `/${encodeURIComponent(der.toString("base64"))}`;

/** OpenSSL as a client, which verifies what comes back. It asks asynchronously, since the server is in this process. */
async function openssl(...args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn("openssl", ["ocsp", "-issuer", "root.pem", "-CAfile", "root.pem", ...args], {
      cwd: judge.folder,
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text: Buffer) => (output += text.toString()));
    child.once("error", reject);
    child.once("close", () => resolve(output));
  });
}

describe("OpenSSL", () => {
  test.each(["-sha1", "-sha256"])("is answered after a POST with a nonce and without, %s", async (hash) => {
    for (const nonce of ["-nonce", "-no_nonce"]) {
      const output = await openssl(hash, "-cert", "leaf.pem", "-cert", "revoked.pem", nonce, "-url", `${url}/ocsp`);
      expect(output).toMatch(/Response verify OK/);
      expect(output).toMatch(/leaf\.pem: good/);
      expect(output).toMatch(/revoked\.pem: revoked[\s\S]*Reason: superseded/);
      expect(output).not.toMatch(/WARNING/);
    }
  });

  test("accepts what a GET brings", async () => {
    await openssl("-cert", "leaf.pem", "-no_nonce", "-reqout", "request.der");
    const { status, headers, body } = await send("GET", getPath(readFileSync(judge.path("request.der"))));
    expect([status, headers["content-type"]]).toEqual([200, "application/ocsp-response"]);
    judge.write("response.der", body);
    const output = await openssl("-respin", "response.der", "-cert", "leaf.pem");
    // On stderr the one, on stdout the other: in any order.
    expect(output).toMatch(/Response verify OK/);
    expect(output).toMatch(/leaf\.pem: good/);
  });
});

describe("requests in a path", () => {
  /** With characters that URLs and proxies treat in their own ways, and an answer of its own. */
  const telling = (text: string) => text.includes("//") && text.includes("+");
  let der: Buffer;
  beforeAll(() => {
    const serials = Array.from({ length: 100_000 }, (_, n) => `7f${n.toString(16).padStart(38, "0f")}`);
    const serialNumber = serials.find((serial) => telling(requestFor([certIdOf(root, serial)]).toString("base64")));
    if (serialNumber === undefined) throw new Error("no serial number with all the characters");
    der = requestFor([certIdOf(root, serialNumber)]);
    const [authority] = responder.register.authorities;
    if (authority === undefined) throw new Error("no authority");
    const { authorityId, generation } = authority.issuer;
    const certificate = { authorityId, generation, serialNumber, notAfter: leaf.notAfter, partition: 0 };
    responder.register.apply([certificate], responder.pki.now.getTime());
  });

  test.each<[string, (base64: string) => string]>([
    ["percent-encoded", (text) => `/${encodeURIComponent(text)}`],
    [
      "percent-encoded in lower case",
      (text) => `/${encodeURIComponent(text).replace(/%../g, (code) => code.toLowerCase())}`,
    ],
    ["as it is", (text) => `/${text}`],
    ["below /ocsp", (text) => `/ocsp/${encodeURIComponent(text)}`],
    ["with a slash too many before it", (text) => `//${encodeURIComponent(text)}`],
    ["with slashes too many below /ocsp", (text) => `/ocsp//${text}`],
    ["with two slashes made one", (text) => `/${text.replaceAll(/\/+/g, "/")}`],
    ["with a space for plus", (text) => `/${encodeURIComponent(text.replaceAll("+", " "))}`],
    ["without padding", (text) => `/${encodeURIComponent(text.replaceAll("=", ""))}`],
    ["with a query", (text) => `/${encodeURIComponent(text)}?source=proxy`],
  ])("are read %s", async (_, path) => {
    expect(verdictOf((await send("GET", path(der.toString("base64")))).body)).toBe("good");
  });

  test.each([
    ["/", 200],
    ["/ocsp", 200],
    ["/ocsp/", 200],
    ["/MFEw", 200],
    [`/${"/".repeat(4_000)}`, 200],
    ["/M%2", 404],
    ["/M%ff%fe", 404],
    ["/favicon.ico", 404],
    ["/crl/unknown/1.crl", 404],
    ["/MFEwTzBNMEsw_w--", 404],
  ])("are refused: %p gives %d", async (path, expected) => {
    const { status, body } = await send("GET", path);
    expect(status).toBe(expected);
    if (status === 200) expect(verdictOf(body)).toBe("malformedRequest");
  });
});

describe("caching", () => {
  const timeOf = (text: string | undefined) => Date.parse(text ?? "");

  test.each(["GET", "POST"])("of an answer to a %s ends half-way, and within an hour", async (method) => {
    const der = about(leaf);
    const { headers, body } = method === "POST" ? await post(der) : await send("GET", getPath(der));
    expect(headers).toMatchObject({
      "content-length": String(body.length),
      etag: expect.stringMatching(/^"[0-9a-f]{64}"$/),
      "cache-control": "max-age=3600, public, no-transform, must-revalidate",
    });
    expect(timeOf(headers.expires) - timeOf(headers["last-modified"])).toBe(24 * 3_600_000);
    expect(Math.abs(timeOf(headers.date) - Date.now())).toBeLessThan(60_000);
  });

  test("what is known already is not sent again, until it changed", async () => {
    const { pki } = responder;
    const changing = await pki.issue(root, "changing");
    await responder.synchronisation.caughtUp();
    const path = getPath(about(changing));
    const { headers } = await send("GET", path);
    const tag = headers.etag ?? "";
    for (const given of [tag, `W/${tag}`, `"other", ${tag}`, "*"]) {
      const second = await send("GET", path, { headers: { "if-none-match": given } });
      expect([second.status, second.body.length, second.headers.etag]).toEqual([304, 0, tag]);
    }
    await pki.authorities.revoke(pki.writer, changing, { reason: "keyCompromise" }, actor);
    await responder.synchronisation.caughtUp();
    const third = await send("GET", path, { headers: { "if-none-match": tag } });
    expect([third.status, verdictOf(third.body)]).toEqual([200, "keyCompromise"]);
  });

  test("is forbidden where an answer is for one request, or none", async () => {
    const certId = certIdOf(root, leaf.serialNumber);
    for (const der of [requestFor([certId], Buffer.alloc(16)), requestFor([certIdOf(root, "7f")]), Buffer.alloc(3)]) {
      const { headers } = await post(der);
      expect(headers["cache-control"]).toBe("no-store, no-transform");
      expect(headers.etag).toBeUndefined();
    }
  });

  test("HEAD tells the same without the answer", async () => {
    const [got, told] = [await send("GET", getPath(about(leaf))), await send("HEAD", getPath(about(leaf)))];
    expect({ ...told.headers, date: "" }).toEqual({ ...got.headers, date: "" });
    expect(told.body.length).toBe(0);
  });
});

describe("documents", () => {
  test("a CRL is there as OpenSSL verifies it, with its times", async () => {
    const path = crlPath({ authorityId: root.id, generation: 1, partition: 0 });
    const { status, headers, body } = await send("GET", path);
    expect([status, headers["content-type"]]).toEqual([200, "application/pkix-crl"]);
    const { thisUpdate, nextUpdate } = parseCrl(body);
    expect(Date.parse(headers["last-modified"] ?? "")).toBe(thisUpdate.getTime());
    expect(Date.parse(headers.expires ?? "")).toBe(nextUpdate?.getTime());
    judge.write("root.crl", body);
    const output = judge.run("openssl", "crl", "-inform", "DER", "-in", "root.crl", "-CAfile", "root.pem", "-text");
    expect(output).toMatch(/verify OK/);
    expect(output).toContain(`Serial Number: ${revoked.serialNumber.toUpperCase()}`);
    const again = await send("GET", path, { headers: { "if-none-match": headers.etag } });
    expect([again.status, again.body.length]).toEqual([304, 0]);
  });

  test("a newer CRL takes its place", async () => {
    const { pki } = responder;
    const path = crlPath({ authorityId: root.id, generation: 1, partition: 0 });
    const { number } = parseCrl((await send("GET", path)).body);
    const another = await pki.issue(root, "listed");
    await pki.authorities.revoke(pki.writer, another, { reason: "superseded" }, actor);
    await responder.crls.publishDue(pki.writer, 10);
    await responder.caughtUp();
    const crl = parseCrl((await send("GET", path)).body);
    expect(crl.number).toBe((number ?? 0n) + 1n);
    expect([...crl.entries()].map(({ serialNumber }) => serialNumber)).toContain(another.serialNumber);
  });

  test("a CA's certificate is there", async () => {
    const { status, headers, body } = await send("GET", caCertificatePath(root.id, 1));
    expect([status, headers["content-type"]]).toEqual([200, "application/pkix-cert"]);
    expect(body).toEqual(root.generations[0]?.certificate);
  });

  test("a CA's renewed certificate takes the place of the one before", async () => {
    const { pki } = responder;
    const { id } = await pki.root("renewed", { parent: { kind: "External" } });
    let replaces: Buffer | undefined;
    for (const name of ["before", "after"]) {
      const { certificate } = await party({ name, ca: true });
      const installed = {
        certificate,
        notAfter: new Date("2036-01-01T00:00:00Z"),
        chain: [],
        ...(replaces && { replaces }),
      };
      await pki.store.installCertificate(pki.writer, { authorityId: id, generation: 1, ...installed, audit: [] });
      await responder.synchronisation.caughtUp();
      expect((await send("GET", caCertificatePath(id, 1))).body).toEqual(certificate);
      replaces = certificate;
    }
  });
});

describe("what is no OCSP request is refused", () => {
  const large = Buffer.alloc(10_241);
  test.each<[string, () => Promise<Received>, number, IncomingHttpHeaders]>([
    ["another method", () => send("PUT", "/", { body: about(leaf) }), 405, { allow: "GET, HEAD, POST" }],
    ["OPTIONS", () => send("OPTIONS", "/"), 405, { allow: "GET, HEAD, POST" }],
    [
      "a POST to a CRL",
      () => send("POST", crlPath({ authorityId: root.id, generation: 1, partition: 0 }), { headers: TYPE }),
      405,
      { allow: "GET, HEAD" },
    ],
    ["a POST elsewhere", () => send("POST", "/other", { headers: TYPE, body: about(leaf) }), 404, {}],
    ["another content type", () => post(about(leaf), { "content-type": "application/json" }), 415, {}],
    ["no content type", () => post(about(leaf), {}), 415, {}],
    ["a body that is too large", () => post(large), 413, { connection: "close" }],
    [
      "a body that turns out too large",
      () => post(large, { ...TYPE, "transfer-encoding": "chunked" }),
      413,
      { connection: "close" },
    ],
  ])("%s", async (_, ask, status, headers) => {
    expect(await ask()).toMatchObject({ status, headers });
  });

  test("a content type with a parameter is the same", async () => {
    const { body } = await post(about(leaf), { "content-type": "Application/OCSP-Request; charset=binary" });
    expect(verdictOf(body)).toBe("good");
  });

  test("an empty body and 10 KiB of nothing are malformed requests, with HTTP 200", async () => {
    for (const body of [Buffer.alloc(0), Buffer.alloc(10_240)]) {
      const received = await post(body);
      expect([received.status, verdictOf(received.body)]).toEqual([200, "malformedRequest"]);
    }
  });

  test("whatever bytes come, there is an answer", async () => {
    const samples = [about(leaf), requestFor([certIdOf(root, leaf.serialNumber)], Buffer.alloc(32))];
    const seen = new Map<string, number>();
    const asked = (n: number): Promise<Received> => {
      const body = Buffer.from(samples[n % 2] ?? "");
      body[(n * 7) % body.length] = (n * 31) % 256;
      if (n % 3 === 0) return send("GET", getPath(body));
      return post(body.subarray(0, n % 5 === 0 ? -n % 50 : undefined));
    };
    // Fewer at a time than there may be connections.
    for (let n = 0; n < 1_500; n += 75) {
      for (const answer of await Promise.all(Array.from({ length: 75 }, (_, more) => asked(n + more)))) {
        expect(answer.status).toBe(200);
        const verdict = verdictOf(answer.body);
        seen.set(verdict, (seen.get(verdict) ?? 0) + 1);
      }
    }
    expect([...seen.keys()].sort()).toEqual(["good", "malformedRequest", "unauthorized", "unknown"]);
    expect(responder.traffic.internalError).toBe(0);
  });
});

test("bytes that are no HTTP end their own connection only", async () => {
  const { port } = new URL(url);
  for (const bytes of [
    "\x16\x03\x01\x02\x00",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\n",
    `GET /${"a".repeat(20_000)} HTTP/1.1\r\n\r\n`,
  ]) {
    const received = await new Promise<string>((resolve, reject) => {
      const socket = connect(Number(port), "127.0.0.1", () => socket.write(bytes));
      let text = "";
      socket.on("data", (chunk) => (text += chunk.toString("latin1")));
      socket.on("close", () => resolve(text));
      socket.on("error", reject);
    });
    expect(received).toMatch(/^HTTP\/1\.1 4\d\d /);
  }
  expect(verdictOf((await post(about(leaf))).body)).toBe("good");
});

test("more connections than are allowed are not taken", async () => {
  const narrow = await responder.serve({ maxConnections: 1 });
  const { port } = new URL(narrow);
  const first = connect(Number(port), "127.0.0.1");
  await new Promise((resolve) => first.once("connect", resolve));
  await expect(send("GET", getPath(about(leaf)), {}, narrow)).rejects.toThrow(/ECONNRESET|socket hang up/);
  first.destroy();
  await until(
    "the first one is gone",
    async () => (await send("GET", getPath(about(leaf)), {}, narrow)).status === 200,
    { timeoutMs: 10_000 },
  );
});

test("with TLS, only clients with a certificate of the right CA are served", async () => {
  const pki = await LabPki.open(judge.path("lab"));
  const server = await pki.issue("ocsp", { commonName: "ocsp", usage: "server" });
  const client = await pki.issue("client", { commonName: "client", usage: "client" });
  const elsewhere = await LabPki.open(judge.path("elsewhere"));
  const stranger = await elsewhere.issue("client", { commonName: "client", usage: "client" });
  const tls = {
    cert: readFileSync(server.certFile),
    key: readFileSync(server.keyFile),
    ca: readFileSync(pki.caFile),
    requestCert: true,
  };
  const secure = await responder.serve({ tls });
  const trusting = { ca: readFileSync(pki.caFile) };
  const having = ({ certFile, keyFile }: typeof client) => ({
    ...trusting,
    cert: readFileSync(certFile),
    key: readFileSync(keyFile),
  });
  const ask = (options: RequestOptions) => send("GET", getPath(about(leaf)), { options }, secure);
  expect(verdictOf((await ask(having(client))).body)).toBe("good");
  await expect(ask(trusting)).rejects.toThrow();
  await expect(ask(having(stranger))).rejects.toThrow();
});
