/** A project of an application team that has the packed library, and nothing else of this repository. */
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";

const root = path.join(import.meta.dirname, "../..");
const tsc = path.join(root, "node_modules/.bin/tsc");

export const version: string = JSON.parse(await readFile(path.join(root, "package.json"), "utf8")).version;
export const tarball = `mazevault-cdk8s-${version}.tgz`;

export interface Ended {
  readonly code: number;
  readonly output: string;
}

export class Project {
  readonly dir: string;
  /** Programs that it finds, before all others. */
  readonly #programs: string;

  private constructor(dir: string) {
    this.dir = dir;
    this.#programs = path.join(dir, "node_modules/.bin");
  }

  /** @param programs by the names that commands of the project know them by */
  static async begin(programs: Readonly<Record<string, string>> = {}): Promise<Project> {
    const project = new Project(await mkdtemp(path.join(tmpdir(), "mazevault-cdk8s-")));
    try {
      await project.#install({ tsc, ...programs });
    } catch (error) {
      await project.end();
      throw error;
    }
    return project;
  }

  async #install(programs: Readonly<Record<string, string>>): Promise<void> {
    await this.#pack();
    const packages = ["cdk8s", "constructs"].map((name) => [name, `file:${path.join(root, "node_modules", name)}`]);
    const dependencies = { "mazevault-cdk8s": `file:${tarball}`, ...Object.fromEntries(packages) };
    await this.write("package.json", JSON.stringify({ private: true, type: "module", dependencies }));
    // Copies, as from a registry. npm refuses peers of another version than the library asks for.
    await this.#npm(this.dir, "install", "--offline", "--install-links", "--ignore-scripts", "--no-audit", "--no-fund");
    await mkdir(this.#programs, { recursive: true });
    for (const [name, file] of Object.entries(programs)) await symlink(file, path.join(this.#programs, name));
  }

  /** From a copy of what packing takes, as it builds in place, and several may at once. */
  async #pack(): Promise<void> {
    const copy = await mkdtemp(path.join(tmpdir(), "mazevault-pack-"));
    try {
      for (const name of ["cdk8s", "charts/mazevault", "tsconfig.json"])
        await cp(path.join(root, name), path.join(copy, name), { recursive: true });
      await symlink(path.join(root, "node_modules"), path.join(copy, "node_modules"));
      await this.#npm(path.join(copy, "cdk8s"), "pack", "--pack-destination", this.dir);
    } finally {
      await rm(copy, { recursive: true });
    }
  }

  async end(): Promise<void> {
    await rm(this.dir, { recursive: true, force: true });
  }

  write(name: string, text: string): Promise<void> {
    return writeFile(path.join(this.dir, name), text);
  }

  read(name: string): Promise<string> {
    return readFile(path.join(this.dir, name), "utf8");
  }

  async run(file: string, args: readonly string[], cwd = this.dir): Promise<Ended> {
    const env = { ...process.env, PATH: `${this.#programs}:${process.env.PATH}` };
    try {
      const { stdout, stderr } = await promisify(execFile)(file, args, { cwd, env, maxBuffer: 256 * 1024 * 1024 });
      return { code: 0, output: stdout + stderr };
    } catch (error) {
      const { code, stdout = "", stderr = "" } = error as { code?: unknown; stdout?: string; stderr?: string };
      if (typeof code !== "number") throw error;
      return { code, output: stdout + stderr };
    }
  }

  async #npm(cwd: string, ...args: string[]): Promise<void> {
    const { code, output } = await this.run("npm", args, cwd);
    if (code !== 0) throw new Error(`npm ${args.join(" ")}: ${output}`);
  }

  /** Checks the files as the project would, each on its own; needs its `tsconfig.json`. */
  async typeCheck(files: Readonly<Record<string, string>>): Promise<Ended> {
    const folder = await mkdtemp(path.join(this.dir, "checked-"));
    for (const [name, text] of Object.entries(files)) await writeFile(path.join(folder, name), text);
    await writeFile(path.join(folder, "tsconfig.json"), JSON.stringify({ extends: "../tsconfig.json" }));
    return this.run(tsc, ["-p", folder, "--pretty", "false"]);
  }
}
