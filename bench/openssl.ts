/** What signatures alone cost here: all that signs is compared with it, in the same run. */
import { execFileSync } from "node:child_process";
import type { Figure } from "./result.ts";

/** Nothing where OpenSSL is not installed. */
export function opensslSpeed(): Figure[] {
  try {
    const output = execFileSync("openssl", ["speed", "-seconds", "2", "ecdsap256"], {
      encoding: "utf8",
      stdio: "pipe",
    });
    const [, signed, verified] = /nistp256\)\s+\S+s\s+\S+s\s+(\S+)\s+(\S+)/.exec(output) ?? [];
    return [
      { what: "openssl speed: P-256 signatures on one core", value: Number(signed), unit: "/s" },
      { what: "openssl speed: P-256 verifications on one core", value: Number(verified), unit: "/s" },
    ];
  } catch {
    return [];
  }
}
