/** What pkilint finds: its own programs, called many at a time. */
import { spawn } from "node:child_process";
import path from "node:path";
import { text } from "node:stream/consumers";
import type { Program } from "./programs.ts";

/** One run of one of its programs. */
export interface LintCall {
  readonly program:
    | "lint_pkix_cert"
    | "lint_cabf_serverauth_cert"
    | "lint_pkix_signer_signee_cert_chain"
    | "lint_crl"
    | "lint_ocsp_response";
  /** Besides those that all have. */
  readonly options: readonly string[];
  /** DER. */
  readonly files: readonly string[];
}

/** WARNING or above. */
export interface LintFinding {
  readonly severity: string;
  /** As pkilint's documentation lists them. */
  readonly code: string;
  readonly message: string | null;
  /** Where in the document. */
  readonly path: string;
}

interface Result {
  readonly node_path: string;
  readonly finding_descriptions: readonly { severity: string; code: string; message: string | null }[];
}

const PATIENCE_MS = 170_000;

/** What each call found, in their order. @throws when pkilint cannot read one of the files */
export async function lint(python: Program, calls: readonly LintCall[]): Promise<readonly (readonly LintFinding[])[]> {
  const script = path.join(import.meta.dirname, "pkilint-calls.py");
  const child = spawn(python.file, [script], { env: { ...process.env, ...python.env }, timeout: PATIENCE_MS });
  const common = ["--format", "JSON", "--severity", "WARNING", "--document-format", "DER"];
  const asked = calls.map(({ program, options, files }) => [program, ["lint", ...options, ...common, ...files]]);
  child.stdin.end(JSON.stringify(asked));
  const [output, complaints] = await Promise.all([text(child.stdout), text(child.stderr)]);
  if (complaints !== "") throw new Error(`pkilint: ${complaints}`);
  return (JSON.parse(output) as readonly (readonly Result[])[]).map((results) =>
    results.flatMap(({ node_path, finding_descriptions }) =>
      finding_descriptions.map((each) => ({ ...each, path: node_path })),
    ),
  );
}
