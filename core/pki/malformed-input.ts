/** A value of a resource or a request that cannot become part of a certificate. The message is for the person who wrote it. */
export class MalformedInput extends Error {
  /** Path of the field under `spec`, for example `dnsNames[2]`. */
  readonly field: string;
  /** What is wrong and what helps, without the path. */
  readonly problem: string;
  constructor(field: string, problem: string) {
    super(`${field}: ${problem}`);
    this.name = "MalformedInput";
    this.field = field;
    this.problem = problem;
  }
}

/** A value in a message: short, on one line, without control characters. */
export const quoted = (text: string): string =>
  JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "?");
