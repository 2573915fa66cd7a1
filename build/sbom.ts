/** What the programs are made of, as CycloneDX; `npm run sbom` writes it beside them, to `dist/sbom.cdx.json`. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

const root = path.join(import.meta.dirname, "..");

interface Lock {
  readonly packages: Readonly<Record<string, { readonly dev?: boolean }>>;
}

/**
 * `npm sbom` of the lock file without what only developers need, and without the binaries of Node, which run a checkout: the programs run on
 * the Node of their image. npm's own `--omit dev` also leaves out what developers and the programs both need, such as pg.
 */
export function sbom(): string {
  const dir = mkdtempSync(path.join(tmpdir(), "mazevault-sbom-"));
  try {
    const { devDependencies, optionalDependencies = {}, ...product } = readJson("package.json");
    const { packages, ...lock } = readJson("package-lock.json") as unknown as Lock;
    const binaries = Object.keys(optionalDependencies as object).map((name) => `node_modules/${name}`);
    const shipped = Object.entries(packages).filter(
      ([name, { dev }]) => name !== "" && dev !== true && !binaries.includes(name),
    );
    // npm names what it describes by the folder.
    const project = path.join(dir, String(product.name));
    mkdirSync(project);
    const write = (name: string, content: object) => writeFileSync(path.join(project, name), JSON.stringify(content));
    write("package.json", product);
    write("package-lock.json", { ...lock, packages: { "": product, ...Object.fromEntries(shipped) } });
    const args = ["sbom", "--package-lock-only", "--sbom-format", "cyclonedx", "--sbom-type", "application"];
    return execFileSync("npm", args, { cwd: project, encoding: "utf8", maxBuffer: 16 * 1024 * 1024 });
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const readJson = (name: string): Record<string, unknown> => JSON.parse(readFileSync(path.join(root, name), "utf8"));

if (import.meta.main) {
  const dist = path.join(root, "dist");
  mkdirSync(dist, { recursive: true });
  writeFileSync(path.join(dist, "sbom.cdx.json"), sbom());
}
