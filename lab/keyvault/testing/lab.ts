import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { ConfigurationInput } from "../config.ts";
import { Control } from "../control.ts";
import type { RunningService } from "../service.ts";
import { connectTo, type MappedClient } from "./connect-to.ts";

const MAIN = new URL("../main.ts", import.meta.url).pathname;
const CONTROL_TOKEN = "lab-control-token";

type Addresses = RunningService["addresses"];

/** A stand-in running as a program of its own, with a folder of its own. */
export class Lab {
  readonly folder = mkdtempSync(join(tmpdir(), "keyvault-lab-"));
  #child: ChildProcess | undefined;
  #addresses: Addresses | undefined;
  #transport: MappedClient | undefined;

  /** Where the configuration's relative paths lead. */
  path(name: string): string {
    return join(this.folder, name);
  }

  /** Starts, or starts again with the same state; ports are chosen anew. */
  async start(part: Pick<ConfigurationInput, "tenants" | "vaults" | "settings">): Promise<void> {
    writeFileSync(this.path("control.token"), CONTROL_TOKEN);
    const configuration: ConfigurationInput = {
      listen: { port: 0 },
      imds: { port: 0 },
      control: { port: 0, tokenFile: "control.token" },
      certFile: "server.pem",
      keyFile: "server.key",
      caFile: "ca.pem",
      stateFile: "state.jsonl",
      ...part,
    };
    writeFileSync(this.path("config.json"), JSON.stringify(configuration));
    const child = spawn(process.execPath, [MAIN, "--config", this.path("config.json")], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#child = child;
    this.#addresses = await firstLine(child);
  }

  get addresses(): Addresses {
    if (this.#addresses === undefined) {
      throw new Error("the stand-in is not running");
    }
    return this.#addresses;
  }

  get control(): Control {
    return new Control(this.addresses.control, CONTROL_TOKEN);
  }

  /** The transport that leads every Azure host to this stand-in. */
  get transport(): MappedClient {
    const { listen, imds } = this.addresses;
    this.#transport ??= connectTo(
      {
        "*.vault.azure.net": listen,
        "login.microsoftonline.com": listen,
        ...(imds === undefined ? {} : { "169.254.169.254": imds }),
      },
      readFileSync(this.path("ca.pem")),
    );
    return this.#transport;
  }

  /** Ends the process at once, as a crash would, or in order. */
  async stop(signal: "SIGKILL" | "SIGTERM" = "SIGTERM"): Promise<void> {
    this.#transport?.destroy();
    this.#transport = undefined;
    this.#addresses = undefined;
    const child = this.#child;
    this.#child = undefined;
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      child.kill(signal);
      await once(child, "exit");
    }
  }

  async dispose(): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true });
  }
}

async function firstLine(child: ChildProcess): Promise<Addresses> {
  if (child.stdout === null) {
    throw new Error("no output to read");
  }
  for await (const line of createInterface({ input: child.stdout })) {
    return JSON.parse(line) as Addresses;
  }
  throw new Error("the stand-in ended before it listened");
}
