/**
 * nginx staples our answers: those it reads from a file, and those it fetches and verifies itself (`ssl_stapling_verify`).
 * OpenSSL's client sees what it staples. Without nginx this file is left out, as jest.config.mjs says.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { until } from "../../../../lab/poll.ts";
import { parseCertificate } from "../../certificate.ts";
import { parseOcspRequest } from "../../ocsp/request.ts";
import { parseOcspResponse } from "../../ocsp/response.ts";
import { pem } from "../../pem.ts";
import { Judge } from "../judge.ts";
import { type Case, caseName, JudgedPki, keyName, keySpecs } from "./artefacts.ts";
import { ask, nginx, openssl } from "./programs.ts";

/** Where nginx has the answer from: a file; a responder; a responder whose signature does not hold. */
const sources = ["file", "responder", "forger"] as const;
type Source = (typeof sources)[number];

const judge = new Judge();
const socket = judge.path("nginx.sock");
const pkis = await Promise.all(keySpecs.map((key) => JudgedPki.make(key)));
const servers = pkis.flatMap(({ cases, cas, leafKey }) =>
  cases.filter(({ profile }) => profile === "Server").map((judged) => ({ judged, root: cas[0]?.chain[0], leafKey })),
);

let log = "";
let responder: Server;
let running: ChildProcess;

/** SNI and file names tell the servers apart. */
const nameOf = (judged: Case, source: Source): string => `${caseName(judged)}.${source}`.toLowerCase();

beforeAll(async () => {
  responder = createServer((request, response) => {
    const [source, encoded = ""] = (request.url ?? "").split("/").slice(1);
    const [asked] = parseOcspRequest(Buffer.from(decodeURIComponent(encoded), "base64")).certIds;
    const serial = asked?.serialNumber.toString("hex");
    const found = servers.find(({ judged }) => serialOf(judged) === serial)?.judged.ocsp?.[asked?.hash ?? "sha1"];
    const body = Buffer.from(found ?? Buffer.alloc(0));
    if (source === "forger") {
      const signature = parseOcspResponse(body).basic?.signature ?? Buffer.alloc(0);
      const last = body.indexOf(signature) + signature.length - 1;
      body[last] = (body[last] ?? 0) ^ 1;
    }
    response.writeHead(200, { "content-type": "application/ocsp-response" }).end(body);
  });
  await once(responder.listen(0, "127.0.0.1"), "listening");
  if (nginx === undefined) throw new Error("there is no nginx on this machine");
  const config = judge.write("nginx.conf", configuration((responder.address() as AddressInfo).port));
  mkdirSync(judge.path("temp"));
  const args = ["-p", judge.folder, "-c", config, "-e", "stderr"];
  running = spawn(nginx.file, args, { env: { ...process.env, ...nginx.env }, stdio: ["ignore", "ignore", "pipe"] });
  running.stderr?.setEncoding("utf8").on("data", (text: string) => {
    log += text;
  });
  const [first] = servers;
  await until(
    "nginx serves",
    async () => first && (await handshake(first.judged, "file")).output.includes("CONNECTED"),
    {
      timeoutMs: 20_000,
    },
  ).catch((error: unknown) => {
    throw new Error(`nginx does not start: ${log}`, { cause: error });
  });
});
afterAll(async () => {
  if (running?.exitCode === null) {
    running.kill();
    await once(running, "exit");
  }
  responder?.close();
  judge.dispose();
});

function configuration(port: number): string {
  const blocks = servers.flatMap(({ judged, root, leafKey }) => {
    const base = caseName(judged);
    const chain = [judged.certificate, ...(judged.issuer?.chain ?? [])];
    const rootFile = judge.write(`${base}.root.pem`, pem("CERTIFICATE", root ?? Buffer.alloc(0)));
    const keyFile = judge.write(`${base}.key`, pem("PRIVATE KEY", leafKey));
    const answer = judge.write(`${base}.ocsp`, judged.ocsp?.sha1 ?? "");
    return sources.map((source) => {
      const name = nameOf(judged, source);
      const chainFile = judge.write(`${name}.pem`, chain.map((der) => pem("CERTIFICATE", der)).join(""));
      const from =
        source === "file"
          ? `ssl_stapling_file ${answer};`
          : `ssl_stapling_responder http://127.0.0.1:${port}/${source};`;
      return `server {
        listen unix:${socket} ssl; server_name ${name};
        ssl_certificate ${chainFile}; ssl_certificate_key ${keyFile}; ssl_trusted_certificate ${rootFile};
        ${from}
      }`;
    });
  });
  const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (kind) => `${kind}_temp_path ${judge.path("temp")}/${kind};`,
  );
  return `daemon off; master_process off; pid ${judge.path("nginx.pid")}; lock_file ${judge.path("nginx.lock")};
    events {}
    http {
      access_log off; ${temp.join(" ")}
      server_names_hash_bucket_size 128;
      ssl_stapling on; ssl_stapling_verify on;
      ${blocks.join("\n")}
    }`;
}

const serialOf = ({ certificate }: Case): string => parseCertificate(certificate).serialNumber.toString("hex");

function handshake(judged: Case, source: Source) {
  const options = ["-unix", socket, "-servername", nameOf(judged, source), "-status"];
  return ask(openssl, ["s_client", ...options, "-CAfile", judge.path(`${caseName(judged)}.root.pem`)]);
}

/** `good`, `revoked`: what is stapled. `nothing`: nginx has looked at the answer and keeps it to itself; with its reason. */
async function stapled(judged: Case, source: Source): Promise<string> {
  const certificate = `certificate: "${judge.path(`${nameOf(judged, source)}.pem`)}"`;
  // It fetches when a client first asks, and that client goes without.
  return until(
    `nginx has an answer for ${nameOf(judged, source)}`,
    async () => {
      const refused = log.split("\n").find((line) => line.includes(certificate) && line.includes("[error]"));
      const { output } = await handshake(judged, source);
      if (!output.includes("Verify return code: 0 (ok)")) throw new Error(output);
      const status = /^ {4}Cert Status: (.+)$/m.exec(output)?.[1];
      if (status !== undefined) return status;
      if (!/^OCSP response: no response sent$/m.test(output)) throw new Error(output);
      const reason = /#\d+: (?:\*\d+ )?(certificate status "\w+"|OCSP_basic_verify\(\) failed)/.exec(
        refused ?? "",
      )?.[1];
      return reason === undefined ? "" : `nothing, ${reason}`;
    },
    { timeoutMs: 20_000 },
  );
}

const expected: Readonly<Record<Source, Readonly<Record<Case["state"], string>>>> = {
  // As it stands in the file.
  file: { good: "good", revoked: "revoked", held: "revoked" },
  responder: {
    good: "good",
    revoked: 'nothing, certificate status "revoked"',
    held: 'nothing, certificate status "revoked"',
  },
  forger: {
    good: "nothing, OCSP_basic_verify() failed",
    revoked: "nothing, OCSP_basic_verify() failed",
    held: "nothing, OCSP_basic_verify() failed",
  },
};
const rows = servers.flatMap(({ judged }) =>
  sources.map((source) => {
    const { key, state } = judged;
    const verdict = expected[source][state];
    return [
      `${keyName(key).padEnd(8)} | ${state.padEnd(7)} | from a ${source.padEnd(9)} | staples ${verdict}`,
      judged,
      source,
      verdict,
    ] as const;
  }),
);
test.each(rows)("%s", async (_, judged, source, verdict) => {
  expect(await stapled(judged, source)).toBe(verdict);
});
