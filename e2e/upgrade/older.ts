/** The version that is upgraded from: the last release, or the one that `npm run test:upgrade` has built of another commit. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { unpack } from "../../build/pack.ts";

const RELEASED = path.join(import.meta.dirname, "../../released");
const PROGRAMS = "programs.tar.zst";

interface Release {
  readonly version: string;
  /** SHA-256, hex. */
  readonly programs: string;
}

export interface OlderVersion {
  readonly name: string;
  /** Folder of its bundled programs. */
  readonly programs: string;
  /** Folder of its resource definitions and rights. */
  readonly definitions: string;
  /** Whether it goes on where a newer version has migrated the database; it refuses otherwise. */
  readonly knowsNewer: boolean;
}

/** @param dir where programs are put that are kept in one file */
export async function olderVersion(dir: string): Promise<OlderVersion> {
  const { UPGRADE_FROM: built } = process.env;
  if (built !== undefined) return version(path.basename(built), path.join(built, "programs"), path.join(built, "crds"));
  const release = JSON.parse(readFileSync(path.join(RELEASED, "release.json"), "utf8")) as Release;
  const packed = readFileSync(path.join(RELEASED, PROGRAMS));
  if (createHash("sha256").update(packed).digest("hex") !== release.programs)
    throw new Error(`released/${PROGRAMS} is not what was released: check it out again, or npm run release`);
  const programs = path.join(dir, "released");
  await unpack(packed, programs);
  return version(`release ${release.version}`, programs, path.join(RELEASED, "crds"));
}

const version = (name: string, programs: string, definitions: string): OlderVersion => ({
  name,
  programs,
  definitions,
  knowsNewer: existsSync(path.join(programs, "migrations/0039_compatibility.sql")),
});
