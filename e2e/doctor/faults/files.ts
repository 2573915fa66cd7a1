/** Files of the operator: certificates and the root key. */
import { chmodSync, copyFileSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { Fault } from "../fault.ts";
import type { Installation } from "../installation.ts";

export const inFiles = (on: Installation): void =>
  describe("in files of the operator", () => {
    const rootKeyFile = (): string => path.join(on.world.lab.dir, "operator/root.key");
    test.each<Fault>([
      {
        fault: "the certificate of REST is replaced by one that has expired",
        plant: () => {
          copyFileSync(on.file("rest.crt"), on.file("rest.crt.kept"));
          copyFileSync(on.expired.certFile, on.file("rest.crt"));
        },
        // Before it is taken up: then it would be told from outside.
        heal: () => renameSync(on.file("rest.crt.kept"), on.file("rest.crt")),
        check: "certificates",
        problem: /a certificate of rest\.certFile has expired/,
        fix: /rest\.crt: write a renewed certificate/,
      },
      {
        fault: "others can read the root key",
        plant: () => chmodSync(rootKeyFile(), 0o644),
        heal: () => chmodSync(rootKeyFile(), 0o600),
        check: "keys.root",
        problem: /others can read it/,
        fix: /mode 0600/,
      },
      {
        fault: "the root key is gone",
        plant: () => renameSync(rootKeyFile(), on.file("root.key")),
        heal: () => {
          copyFileSync(on.file("root.key"), rootKeyFile());
          chmodSync(rootKeyFile(), 0o600);
        },
        check: "keys.root",
        problem: /does not exist/,
        fix: /restore .*root\.key from its copy.*do not restart before/,
      },
      {
        fault: "the root key is another one",
        plant: () => writeFileSync(rootKeyFile(), `${Buffer.alloc(32, 7).toString("base64")}\n`, { mode: 0o600 }),
        heal: () => copyFileSync(on.file("root.key"), rootKeyFile()),
        check: "keys.root",
        problem: /is not the one that wrapped the installation's key/,
        fix: /restore the copy of the former key/,
      },
    ])("$fault", (fault) => on.plants(fault));
  });
