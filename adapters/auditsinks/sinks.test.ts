import { createHmac } from "node:crypto";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { AuditRecord } from "../../core/audit/record.ts";
import { auditSinkContract, sampleBatch } from "../../core/ports/audit-sink.contract.ts";
import type { SinkTarget } from "../../core/ports/audit-sink.ts";
import { Sensitive } from "../../core/sensitive.ts";
import { type CertificateFiles, LabPki } from "../../lab/pki.ts";
import { Sinks } from "./sinks.ts";
import { Receiver } from "./testing/receiver.ts";

const { signal } = new AbortController();
const open: Receiver[] = [];
let dir: string;
let pki: LabPki;
let server: CertificateFiles;
let client: CertificateFiles;
let sinks: Sinks;
let files = 0;

beforeAll(async () => {
  dir = mkdtempSync(path.join(tmpdir(), "mazevault-sinks-"));
  pki = await LabPki.open(path.join(dir, "pki"));
  server = await pki.issue("server", { commonName: "receiver", usage: "server" });
  client = await pki.issue("client", { commonName: "mazevault", usage: "client" });
  sinks = new Sinks({ timeoutMs: 5_000, fileDirectory: dir });
});
afterEach(async () => {
  for (const receiver of open.splice(0)) await receiver.stop();
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const newFile = (): string => {
  files += 1;
  return `audit-${files}.jsonl`;
};
const lines = (file: string): string[] => readFileSync(path.join(dir, file), "utf8").split("\n").slice(0, -1);

async function startReceiver(mutual = false): Promise<Receiver> {
  const receiver = await Receiver.start(server, mutual ? pki.caFile : undefined);
  open.push(receiver);
  return receiver;
}

const trusted = () => ({ ca: readFileSync(pki.caFile, "utf8") });
const webhook = ({ url }: Receiver, hmacKey = new Sensitive("key")): SinkTarget => ({
  kind: "Webhook",
  url,
  tls: trusted(),
  hmacKey,
});
const otlp = ({ url }: Receiver): SinkTarget => ({
  kind: "Otlp",
  url,
  tls: trusted(),
  authorization: new Sensitive("Bearer token\n"),
});
const refuseWith = (receiver: Receiver) => async (refusing: boolean) => {
  receiver.answer = refusing ? { status: 503 } : undefined;
};

describe("a file", () => {
  auditSinkContract(async () => {
    const name = newFile();
    const file = path.join(dir, name);
    return {
      sink: sinks.open({ kind: "File", name }),
      received: async () => lines(name).map((line) => JSON.parse(line) as AuditRecord),
      refuse: async (refusing) => {
        rmSync(file, { force: true });
        // On this device every write fails as on a full disk.
        if (refusing) symlinkSync("/dev/full", file);
      },
    };
  });

  test("has each record once, also after a crash in the middle of a line and of a batch", async () => {
    const name = newFile();
    const batch = await sampleBatch(25);
    const whole = newFile();
    await sinks.open({ kind: "File", name: whole }).deliver(batch, signal);
    const written = lines(whole);
    for (const torn of [`${written[17]}\n${written[18]?.slice(0, 40)}`, "", `${written[17]}\n`, "{"]) {
      writeFileSync(
        path.join(dir, name),
        written
          .slice(0, 17)
          .map((line) => `${line}\n`)
          .join("") + torn,
      );
      await sinks.open({ kind: "File", name }).deliver(batch, signal);
      expect(lines(name)).toEqual(written);
    }
    const sink = sinks.open({ kind: "File", name });
    await sink.deliver(batch, signal);
    // Somebody else wrote, and left a line unfinished: what is ours begins a line of its own.
    appendFileSync(path.join(dir, name), "unfinished");
    await sink.deliver(await sampleBatch(1), signal);
    expect(lines(name)).toHaveLength(written.length + 1);
  });

  test("goes on with a record that forked, although its positions come again", async () => {
    const name = newFile();
    const [before, restored] = [await sampleBatch(15), await sampleBatch(15)];
    await sinks.open({ kind: "File", name }).deliver(before, signal);
    await sinks.open({ kind: "File", name }).deliver({ ...restored, checkpoints: [] }, signal);
    expect(lines(name)).toHaveLength(16 + 15);
  });

  test("may only be where the installation allows it", () => {
    const none = new Sinks({ timeoutMs: 1_000 });
    expect(() => none.open({ kind: "File", name: "a" })).toThrow(
      expect.objectContaining({ code: "SinkNotAllowed", message: expect.stringContaining("audit.fileDirectory") }),
    );
  });
});

describe("a webhook", () => {
  auditSinkContract(async () => {
    const receiver = await startReceiver();
    return {
      sink: sinks.open(webhook(receiver)),
      received: async () => receiver.messages.flatMap(({ body }) => JSON.parse(body).records as AuditRecord[]),
      refuse: refuseWith(receiver),
    };
  });

  test.each([
    ["key", "key"],
    [`whsec_${Buffer.from("other key").toString("base64")}`, "other key"],
  ])("is signed with %s, and the same batch has the same id", async (given, key) => {
    const receiver = await startReceiver();
    const sink = sinks.open(webhook(receiver, new Sensitive(given)));
    const batch = await sampleBatch(3);
    for (let time = 0; time < 2; time += 1) await sink.deliver(batch, signal);
    const ids = receiver.messages.map(({ headers, body }) => {
      const { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature } = headers;
      const expected = createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64");
      expect(signature).toBe(`v1,${expected}`);
      return id;
    });
    expect(new Set(ids).size).toBe(1);
    await sink.close();
  });

  test("shows its client certificate, without which the receiver does not talk to it", async () => {
    const receiver = await startReceiver(true);
    const { url } = receiver;
    const batch = await sampleBatch(1);
    const certificate = readFileSync(client.certFile, "utf8");
    const key = new Sensitive(readFileSync(client.keyFile));
    const shown = sinks.open({ kind: "Webhook", url, tls: { ...trusted(), client: { certificate, key } } });
    await shown.deliver(batch, signal);
    expect(receiver.messages.map(({ client: name }) => name)).toEqual(["mazevault"]);
    const hidden = sinks.open(webhook(receiver));
    await expect(hidden.deliver(batch, signal)).rejects.toMatchObject({ code: "SinkUnreachable" });
    for (const sink of [shown, hidden]) await sink.close();
  });

  test("does not go where another certificate answers, follows nobody, and waits no longer than it may", async () => {
    const receiver = await startReceiver();
    const batch = await sampleBatch(1);
    const strict = sinks.open({ kind: "Webhook", url: receiver.url, tls: {}, hmacKey: new Sensitive("key") });
    await expect(strict.deliver(batch, signal)).rejects.toMatchObject({ code: "SinkUnreachable" });
    const sink = sinks.open(webhook(receiver));
    receiver.answer = { status: 307, headers: { location: receiver.url } };
    await expect(sink.deliver(batch, signal)).rejects.toMatchObject({ code: "SinkRefused" });
    receiver.answer = { status: 401 };
    await expect(sink.deliver(batch, signal)).rejects.toMatchObject({
      message: expect.stringContaining("answers 401"),
    });
    receiver.answer = { status: 429, headers: { "retry-after": "17" } };
    await expect(sink.deliver(batch, signal)).rejects.toMatchObject({ name: "Waiting", afterMs: 17_000 });
    receiver.answer = "Hang";
    await expect(sink.deliver(batch, signal)).rejects.toMatchObject({
      message: expect.stringContaining("TimeoutError"),
    });
    expect(receiver.messages).toEqual([]);
    for (const each of [strict, sink]) await each.close();
  });
});

describe("OTLP", () => {
  interface Export {
    readonly resourceLogs: readonly {
      readonly scopeLogs: readonly {
        readonly logRecords: readonly { readonly body: { readonly stringValue: string } }[];
      }[];
    }[];
  }
  const exported = ({ body }: { body: string }) =>
    (JSON.parse(body) as Export).resourceLogs.flatMap(({ scopeLogs }) =>
      scopeLogs.flatMap(({ logRecords }) => logRecords),
    );

  auditSinkContract(async () => {
    const receiver = await startReceiver();
    return {
      sink: sinks.open(otlp(receiver)),
      received: async () =>
        receiver.messages.flatMap(exported).map(({ body }) => JSON.parse(body.stringValue) as AuditRecord),
      refuse: refuseWith(receiver),
    };
  });

  test("has what one searches by as attributes, and does not lose what a collector rejects", async () => {
    const receiver = await startReceiver();
    const sink = sinks.open(otlp(receiver));
    const batch = await sampleBatch(2);
    await sink.deliver(batch, signal);
    const [message] = receiver.messages;
    if (message === undefined) throw new Error("expected a message");
    expect(message.headers.authorization).toBe("Bearer token");
    expect(exported(message)[1]).toMatchObject({
      eventName: "mazevault.audit.row",
      severityNumber: 9,
      timeUnixNano: expect.stringMatching(/^\d{13}000000$/),
      attributes: expect.arrayContaining([
        { key: "mazevault.audit.position", value: { intValue: "2" } },
        { key: "mazevault.audit.action", value: { stringValue: "SecretRead" } },
      ]),
    });
    receiver.answer = { status: 200, body: JSON.stringify({ partialSuccess: { rejectedLogRecords: "1" } }) };
    await expect(sink.deliver(batch, signal)).rejects.toMatchObject({
      code: "SinkRefused",
      message: expect.stringContaining("rejected 1 of 2"),
    });
    await sink.close();
  });
});
