/** A machine that is not as it should be: a disk is nearly full, and programs leave core dumps. */
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";

/** Mounts that nobody else sees, and that end with the program: for root, or in a user namespace. */
const OWN_MOUNTS = ["unshare", ...(process.getuid?.() === 0 ? [] : ["--user", "--map-root-user"]), "--mount"] as const;

/** Whether a test may mount a small disk here. */
export const canMount = (): boolean => succeeds(...OWN_MOUNTS, "mount", "-t", "tmpfs", "none", tmpdir());

/** Whether the limit of core files can be raised here. */
export const canDumpCore = (): boolean => succeeds("/bin/sh", "-c", "ulimit -S -c 1");

function succeeds(command: string, ...args: readonly string[]): boolean {
  return spawnSync(command, args, { stdio: "ignore" }).status === 0;
}

/**
 * What runs a program there, for `ProgramOptions.launcher`; as far as this machine allows it.
 * @param fullDisk the folder that a disk of 1 MiB is mounted at, of which less than 3 % are left
 */
export function unwell({ fullDisk }: { readonly fullDisk: string }): readonly string[] {
  const fill = 'mount -t tmpfs -o size=1m none "$0" && head -c 1024000 /dev/zero > "$0/filler"';
  const mounts = canMount();
  const dumps = canDumpCore();
  const script = [...(mounts ? [fill] : []), ...(dumps ? ["ulimit -S -c 1"] : []), 'exec "$@"'].join(" && ");
  return [...(mounts ? OWN_MOUNTS : []), "/bin/sh", "-c", script, fullDisk];
}
