/** The version that is upgraded from: the last release, or the one that `npm run test:upgrade` has built of another commit. */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { unpack } from "../../build/pack.ts";

const RELEASED = path.join(import.meta.dirname, "../../released");

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
  const { version: name } = JSON.parse(readFileSync(path.join(RELEASED, "release.json"), "utf8")) as {
    version: string;
  };
  const programs = path.join(dir, "released");
  await unpack(readFileSync(path.join(RELEASED, "programs.tar.zst")), programs);
  return version(`release ${name}`, programs, path.join(RELEASED, "crds"));
}

const version = (name: string, programs: string, definitions: string): OlderVersion => ({
  name,
  programs,
  definitions,
  knowsNewer: existsSync(path.join(programs, "migrations/0039_compatibility.sql")),
});
