/**
 * Bundles the programs as they ship: plain JavaScript in one folder, with nothing of `node_modules` beside it. Run from its
 * sources the operator needs 60 MiB and half a second of CPU more at start: Node's type stripping, a thousand files to
 * find and read, and the comments of client-node's models, which V8 keeps in memory.
 */
import { chmodSync, cpSync } from "node:fs";
import path from "node:path";
import { build } from "esbuild";

const root = path.join(import.meta.dirname, "..");

/**
 * Node's own arguments for the operator. By itself V8 lets the heap grow to a multiple of what is alive in it, and what a
 * burst of work left behind stays resident: with 1,000 secrets 25 MiB are alive, and 210 MiB resident without these two,
 * 175 MiB with them, for a twentieth more CPU. The warning is about a package below @dot-i/k8s-operator that nobody calls.
 */
export const NODE_ARGUMENTS = [
  "--max-semi-space-size=8",
  "--heap-growing-percent=50",
  "--disable-warning=DEP0040",
] as const;

/** Names of the programs' files in the folder. */
export const OPERATOR = "operator.mjs";
export const REST = "rest.mjs";
export const OCSP = "ocsp.mjs";
export const BACKUP = "backup.mjs";
export const CLI = "mazevault.mjs";

export async function bundle(directory: string): Promise<void> {
  await build({
    absWorkingDir: root,
    entryPoints: {
      operator: "operator/main.ts",
      rest: "operator/rest/main.ts",
      ocsp: "ocsp/main.ts",
      backup: "operator/backup/main.ts",
      mazevault: "cli/main.ts",
      // Found beside whoever starts it (core/vault/bcrypt.ts).
      "bcrypt-worker": "core/vault/bcrypt-worker.ts",
    },
    outdir: directory,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    // What is imported lazily stays lazy.
    splitting: true,
    platform: "node",
    format: "esm",
    target: "node26",
    // Names stay, so that stack traces and profiles can be read.
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: "external",
    // Packages in CommonJS call `require` for what Node brings itself.
    banner: {
      js: 'import { createRequire as $require } from "node:module"; const require = $require(import.meta.url);',
    },
    logLevel: "warning",
  });
  chmodSync(path.join(directory, CLI), 0o755);
  cpSync(path.join(root, "adapters/postgres/migrations"), path.join(directory, "migrations"), { recursive: true });
}
