/** PEM as RFC 7468 writes it; reading accepts any line width and text outside the blocks. */
import { MalformedInput } from "./malformed-input.ts";

export interface PemBlock {
  /** `CERTIFICATE`, `CERTIFICATE REQUEST`, `PRIVATE KEY`, ... */
  readonly label: string;
  readonly der: Buffer;
}

export function pem(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ""].join("\n");
}

/**
 * All blocks of a text, at least one.
 *
 * @param field what a problem is reported of
 * @throws MalformedInput
 */
export function parsePem(text: string, field: string): PemBlock[] {
  const blocks: PemBlock[] = [];
  let label: string | undefined;
  let body: string[] = [];
  for (const line of text.split(/\r?\n/)) {
    const [, edge, name = ""] = /^-----(BEGIN|END) ([A-Z0-9][A-Z0-9 #]*)-----\s*$/.exec(line) ?? [];
    if (label === undefined) {
      if (edge === "END") throw new MalformedInput(field, `the PEM block ${name} has no begin`);
      if (edge) [label, body] = [name, []];
    } else if (!edge) {
      body.push(line.trim());
    } else if (edge === "END" && name === label) {
      blocks.push({ label, der: base64(body.join(""), field, label) });
      label = undefined;
    } else {
      throw new MalformedInput(field, `the PEM block ${label} is followed by another edge than its own end`);
    }
  }
  if (label !== undefined) throw new MalformedInput(field, `the PEM block ${label} has no end`);
  if (blocks.length === 0) throw new MalformedInput(field, "holds no PEM block (-----BEGIN ...-----)");
  return blocks;
}

function base64(text: string, field: string, label: string): Buffer {
  const der = Buffer.from(text, "base64");
  // Buffer skips what is not base64, so only text that comes out again was base64.
  if (text === "" || der.toString("base64") !== text) {
    throw new MalformedInput(field, `the PEM block ${label} is not base64`);
  }
  return der;
}
