/**
 * `npm run release` takes a release: what stands here becomes what later versions are compared with, and upgraded from, in `released/`.
 * `npm run release -- 0.2.0` gives it that version first. It refuses what takes something away from the last release, unless that is
 * accepted there. A person reads the difference, commits and tags it.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { withConnection } from "../adapters/postgres/testing/client.ts";
import { startServer } from "../adapters/postgres/testing/server.ts";
import { bundle } from "../build/bundle.ts";
import { pack } from "../build/pack.ts";
import { obtainNeeds, verifyNeeds } from "../lab/setup/needs.ts";
import { notAccepted, readAccepted } from "./compatibility/accepted.ts";
import { compatibilityChecks } from "./compatibility/checks.ts";
import { brokenByCatalog, type Catalog, readCatalog, wrongLeast } from "./compatibility/database.ts";
import { whyNotNext } from "./compatibility/next-version.ts";
import { RELEASED, releasedMigrations, root, surfaces } from "./compatibility/surfaces.ts";

/** Where the version stands, beside package.json and the lock file, which npm changes. */
const VERSIONED = [
  "program/version.ts",
  "Dockerfile",
  "charts/mazevault/Chart.yaml",
  "cdk8s/package.json",
  "deploy/gitops/argocd/applications.yaml",
  "deploy/gitops/flux/mazevault.yaml",
  "docs/guides/write-manifests-in-typescript.md",
];
const CATALOG = "database.json";
const ACCEPTED = "accepted.yaml";

const text = (file: string): string => readFileSync(path.join(root, file), "utf8");
const put = (file: string, content: string): void => writeFileSync(path.join(root, file), content);
const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

function run(command: string, ...args: readonly string[]): string {
  return execFileSync(command, args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
}

function fail(...problems: readonly string[]): never {
  for (const problem of problems) console.error(problem);
  process.exit(1);
}

async function catalog(): Promise<Catalog> {
  const server = await startServer();
  try {
    return await withConnection(await server.database(), readCatalog);
  } finally {
    await server.stop();
  }
}

async function programs(): Promise<Buffer> {
  const dir = mkdtempSync(path.join(tmpdir(), "mazevault-release-"));
  try {
    await bundle(dir);
    return await pack(dir);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** What was taken away since the last release and not accepted. */
async function takenAway(now: Catalog): Promise<boolean> {
  const held = await Promise.all(compatibilityChecks().map(({ holds }) => holds()));
  const before = JSON.parse(text(path.join("released", CATALOG))) as Catalog;
  const broken = brokenByCatalog(before, now);
  const problems = [
    ...notAccepted("database", broken),
    ...wrongLeast(now.least, Object.keys(releasedMigrations()), broken.length > 0),
  ];
  for (const problem of problems) console.error(problem);
  return held.includes(false) || problems.length > 0;
}

function rename(from: string, to: string): void {
  run("npm", "version", to, "--no-git-tag-version");
  for (const file of VERSIONED) put(file, text(file).replaceAll(from, to));
  const day = new Date().toISOString().slice(0, 10);
  put("CHANGELOG.md", text("CHANGELOG.md").replace("## Unreleased\n", `## Unreleased\n\n## ${to} (${day})\n`));
  run("npm", "run", "generate");
}

async function write(version: string, now: Catalog): Promise<void> {
  const packed = await programs();
  const accepted = text(path.join("released", ACCEPTED)).split("\n");
  const files = new Map<string, string | Buffer>([
    ...surfaces().flatMap((surface) => [...surface.files()]),
    [CATALOG, json(now)],
    ["programs.tar.zst", packed],
    ["release.json", json({ version, programs: createHash("sha256").update(packed).digest("hex") })],
    [ACCEPTED, [...accepted.filter((line) => line.startsWith("#")), ...NOTHING, ""].join("\n")],
  ]);
  rmSync(RELEASED, { recursive: true });
  for (const [name, content] of files) {
    const file = path.join(RELEASED, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, content);
  }
}

const NOTHING = Object.keys(readAccepted()).map((surface) => `${surface}: []`);

const missing = await obtainNeeds(console.log, verifyNeeds);
if (missing.length > 0) fail(...missing);
if (run("git", "status", "--porcelain") !== "")
  fail("commit or put away what has changed: a release is one of a commit");
const { version: last } = JSON.parse(text("package.json")) as { version: string };
const [version = last] = process.argv.slice(2);
const accepts = Object.values(readAccepted()).some((list) => list.length > 0);
const why = whyNotNext(version, last, accepts);
if (why !== undefined) fail(why);
const now = await catalog();
// The first one is compared with nothing.
if (existsSync(path.join(RELEASED, CATALOG)) && (await takenAway(now))) fail("nothing was released");
if (version !== last) rename(last, version);
await write(version, now);
console.log(`released/ is that of ${version} now: read git diff, commit it, and tag it v${version}`);
