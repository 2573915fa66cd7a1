import { MalformedInput } from "./malformed-input.ts";
import { parsePem, pem } from "./pem.ts";

const der = Buffer.from(Array.from({ length: 100 }, (_, n) => n));
const text = pem("CERTIFICATE", der);

test("lines have 64 characters and come back", () => {
  expect(text.split("\n").map((line) => line.length)).toEqual([27, 64, 64, 8, 25, 0]);
  expect(parsePem(text, "tls.crt")).toEqual([{ label: "CERTIFICATE", der }]);
});

test("several blocks, text around them, other line ends", () => {
  const all = `subject=CN=a\n${text}\nissuer\n${pem("PRIVATE KEY", der)}`.replaceAll("\n", "\r\n");
  expect(parsePem(all, "chain").map(({ label }) => label)).toEqual(["CERTIFICATE", "PRIVATE KEY"]);
});

test.each([
  ["nothing", "", /holds no PEM block/],
  ["no end", text.slice(0, 60), /has no end/],
  ["no begin", text.slice(30), /has no begin/],
  ["another end", text.replace("END CERTIFICATE", "END KEY"), /another edge/],
  ["a begin inside", `-----BEGIN A-----\n${text}`, /another edge/],
  ["an empty block", pem("A", Buffer.alloc(0)), /not base64/],
  ["a header", text.replace("\n", "\nProc-Type: 4,ENCRYPTED\n"), /not base64/],
  ["missing padding", text.replace("=", ""), /not base64/],
  ["set bits behind the end", pem("A", Buffer.of(0)).replace("AA==", "AB=="), /not base64/],
])("%s", (_, wrong, message) => {
  expect(() => parsePem(wrong, "tls.crt")).toThrow(MalformedInput);
  expect(() => parsePem(wrong, "tls.crt")).toThrow(message);
});

test("a megabyte of almost nothing takes no time", () => {
  expect(() => parsePem("-----BEGIN A-----\n".repeat(60_000), "x")).toThrow(MalformedInput);
  expect(() => parsePem(`-----BEGIN A-----\n${"-".repeat(1 << 20)}`, "x")).toThrow(MalformedInput);
});
