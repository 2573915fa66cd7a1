import { readDer } from "./der/reader.ts";
import * as der from "./der/writer.ts";
import { newSerialNumber, parseSerial, serialToText } from "./serial.ts";

test("serial numbers are positive, of one length, and none comes twice", () => {
  const serials = Array.from({ length: 1000 }, () => newSerialNumber(new Date()));
  expect(new Set(serials.map((serial) => serial.toString("hex"))).size).toBe(1000);
  for (const serial of serials) expect(readDer(der.integer(serial), (r) => r.integer())).toEqual(serial);
  // Each of the 128 random bits is sometimes set and sometimes not.
  for (let bit = 16; bit < 144; bit++) {
    const ones = serials.filter((serial) => ((serial[bit >> 3] ?? 0) >> (7 - (bit & 7))) & 1).length;
    expect(ones).toBeGreaterThan(300);
    expect(ones).toBeLessThan(700);
  }
});

test("those of one day are not those of another", () => {
  const dayOf = (time: string) => newSerialNumber(new Date(time)).subarray(0, 2).toString("hex");
  expect(dayOf("2026-03-01T00:00:00Z")).toBe(dayOf("2026-03-01T23:59:59Z"));
  const start = new Date("2026-03-01T00:00:00Z").getTime();
  const days = Array.from({ length: 12_000 }, (_, day) => dayOf(new Date(start + day * 86_400_000).toISOString()));
  expect(new Set(days).size).toBe(12_000);
});

test("the text comes back", () => {
  const serial = newSerialNumber(new Date());
  expect(serialToText(serial)).toMatch(/^[4-7][0-9a-f](:[0-9a-f]{2}){17}$/);
  expect(parseSerial(serialToText(serial), "serialNumber")).toEqual(serial);
});

test("another CA's is written as openssl writes it", () => {
  expect(serialToText(Buffer.from("00ff0a", "hex"))).toBe("ff:0a");
  expect(parseSerial("ff:0a", "serialNumber").toString("hex")).toBe("00ff0a");
  expect(serialToText(Buffer.of(0))).toBe("00");
});

test.each([
  ["3F:0A", "3f0a"],
  ["3f0a", "3f0a"],
  ["f0a", "0f0a"],
  ["00:00:01", "01"],
  ["ff", "00ff"],
])("%s", (text, hex) => {
  expect(parseSerial(text, "serialNumber").toString("hex")).toBe(hex);
});

test.each([
  "",
  "0",
  "00:00",
  "3f:0",
  "3f::0a",
  "xyz",
  "3f 0a",
  "-1",
  "0x1f",
  "7f".repeat(21),
  "ff".repeat(20),
  "1".repeat(1000),
])("%p is refused", (text) => {
  expect(() => parseSerial(text, "revocations[0].serialNumber")).toThrow(
    expect.objectContaining({ name: "MalformedInput", field: "revocations[0].serialNumber" }),
  );
});
