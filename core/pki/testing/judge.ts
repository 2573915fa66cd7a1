import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

/** A folder in which programs that we did not write judge what we wrote; `dispose` removes it. */
export class Judge {
  readonly folder = mkdtempSync(path.join(tmpdir(), "mazevault-pki-"));

  path(name: string): string {
    return path.join(this.folder, name);
  }

  write(name: string, content: Buffer | string): string {
    writeFileSync(this.path(name), content);
    return this.path(name);
  }

  /** What the program said, on both outputs, and whether it ended with 0. */
  ask(program: string, ...args: string[]): { ok: boolean; output: string } {
    const { status, stdout, stderr, error } = spawnSync(program, args, { cwd: this.folder, encoding: "utf8" });
    if (error !== undefined) throw error;
    return { ok: status === 0, output: `${stdout}${stderr}` };
  }

  /** What the program said; throws unless it ended with 0. */
  run(program: string, ...args: string[]): string {
    const { ok, output } = this.ask(program, ...args);
    if (!ok) throw new Error(`${program} ${args.join(" ")}: ${output}`);
    return output;
  }

  dispose(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
