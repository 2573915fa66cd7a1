/** Between the command line and the server: address, TLS, clock, version, credentials. */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { VERSION } from "../../../program/version.ts";
import { firstAdmin } from "../../rest-client.ts";
import type { Fault } from "../fault.ts";
import type { Installation } from "../installation.ts";

export const betweenHereAndTheServer = (on: Installation): void =>
  describe("between here and the server", () => {
    test.each<Fault>([
      {
        fault: "nobody has said where it is",
        given: () => ({ env: { MAZEVAULT_SERVER: undefined } }),
        check: "connection",
        problem: /no server/,
        fix: /mazevault login --server/,
      },
      {
        fault: "nothing listens",
        given: () => on.at("https://127.0.0.1:1"),
        check: "connection",
        problem: /nothing listens there/,
        fix: /rest\.certFile.*kubectl -n mazevault-system/,
      },
      {
        fault: "there is no such host",
        given: () => on.at("https://mazevault.invalid:8443"),
        check: "connection",
        problem: /no such host|cannot be resolved/,
        fix: /--server|DNS/,
      },
      {
        fault: "the CA is not known",
        given: () => ({ env: { MAZEVAULT_CA_FILE: undefined } }),
        check: "connection",
        problem: /unknown CA/,
        fix: /--ca-file/,
      },
      {
        fault: "the CA file is not there",
        given: () => ({ env: { MAZEVAULT_CA_FILE: on.file("nowhere.pem") } }),
        check: "connection",
        problem: /cannot be read \(ENOENT\)/,
        fix: /correct --ca-file/,
      },
      {
        fault: "the server's certificate has expired",
        given: async () => on.at(await on.serve(on.expired)),
        check: "connection",
        problem: /its certificate has expired/,
        fix: /rest\.certFile/,
      },
      {
        fault: "the certificate is for another host",
        given: async () => {
          const elsewhere = { usage: "server", elsewhere: true, dnsNames: ["mazevault.example.com"] } as const;
          return on.at(
            await on.serve(await on.world.lab.pki.issue("elsewhere", { commonName: "elsewhere", ...elsewhere })),
          );
        },
        check: "connection",
        problem: /for another host/,
        fix: /name that stands in it/,
      },
      {
        fault: "the certificate is not one of a server",
        given: async () =>
          on.at(await on.serve(await on.world.lab.pki.issue("client", { commonName: "client", usage: "client" }))),
        check: "connection",
        problem: /not one of a server/,
        fix: /serverAuth/,
      },
      {
        fault: "it is the port of something without TLS",
        given: () => on.at(`https://127.0.0.1:${on.operator.httpPort}`),
        check: "connection",
        problem: /does not speak TLS/,
        fix: /rest\.port/,
      },
      {
        fault: "something else answers",
        given: async () =>
          on.at(await on.serve(await on.world.lab.pki.issue("proxy", { commonName: "proxy", usage: "server" }))),
        check: "connection",
        problem: /not MazeVault/,
        fix: /--server/,
      },
      {
        fault: "the clocks differ",
        given: async () => on.at(await on.ahead()),
        check: "clock",
        problem: /this clock is 3\d\d\d s behind the server's/,
        fix: /timedatectl/,
      },
      {
        fault: "the program is older than the server",
        given: () => ({ cli: olderCli(on) }),
        check: "version",
        problem: /this program is 0\.0\.9, older than the server/,
        fix: /install 0\.1\.0/,
      },
      {
        fault: "nobody is logged in",
        given: () => ({ env: { MAZEVAULT_TOKEN: undefined } }),
        check: "credentials",
        problem: /not logged in/,
        fix: /mazevault login/,
      },
      {
        fault: "a token that was forged",
        given: () => on.withToken(`${on.admin.slice(0, -8)}AAAAAAAA`),
        check: "credentials",
        problem: /a token that is not accepted/,
        fix: /unset MAZEVAULT_TOKEN, then mazevault login/,
      },
      {
        fault: "a token whose session was ended",
        given: async () => {
          const { email, password } = await firstAdmin(on.world);
          const token = await on.rest.login(email, password);
          expect((await on.rest.send("POST", "/api/v1/auth/logout", { token })).status).toBe(204);
          return on.withToken(token);
        },
        check: "credentials",
        problem: /its session was ended/,
        fix: /mazevault login/,
      },
      {
        fault: "an API key that was revoked",
        given: async () => {
          const { id, secret } = await on.apiKey(["list"]);
          expect((await on.rest.send("DELETE", `/api/v1/api-keys/${id}`, { token: on.admin })).status).toBe(204);
          return on.withToken(secret);
        },
        check: "credentials",
        problem: /an API key that is not accepted/,
        fix: /make a new one/,
      },
      {
        fault: "no right to see the server's own findings",
        given: async () => on.withToken((await on.apiKey(["list"])).secret),
        check: "diagnostics",
        status: "warning",
        problem: /may not see/,
        fix: /role admin or auditor/,
      },
    ])("$fault", (fault) => on.plants(fault));
  });

/** The program as it ships, with the version of an earlier release. */
function olderCli(on: Installation): string {
  const programs = path.dirname(on.world.mazevault.cli);
  const older = on.file("older");
  execFileSync("cp", ["-r", programs, older]);
  for (const name of execFileSync("grep", ["-rlF", `"${VERSION}"`, older], { encoding: "utf8" })
    .trim()
    .split("\n")) {
    writeFileSync(name, readFileSync(name, "utf8").replaceAll(`"${VERSION}"`, '"0.0.9"'));
  }
  return path.join(older, path.basename(on.world.mazevault.cli));
}
