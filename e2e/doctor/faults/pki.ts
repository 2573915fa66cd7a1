/** CAs, their CRLs, the responder. */
import { parseCsr } from "../../../core/pki/csr.ts";
import { pem } from "../../../core/pki/pem.ts";
import { party } from "../../../core/pki/testing/party.ts";
import { conditionOf } from "../../harness.ts";
import type { Fault } from "../fault.ts";
import type { Installation } from "../installation.ts";

const KIND = "clusterissuer.mazevault.io";
const DAY_MS = 86_400_000;

export const inThePki = (on: Installation): void =>
  describe("in the PKI", () => {
    test.each<Fault>([
      {
        fault: "the certificate of a CA below a root that is kept offline is near its end",
        plant: () => certifyFor(on, 2 * DAY_MS),
        heal: () => on.world.kubectl("delete", KIND, "offline"),
        check: "pki.authorities",
        status: "warning",
        problem: /^the certificate of ClusterIssuer offline expires at \d{4}-/,
        fix: /have it signed again: kubectl describe clusterissuers\.mazevault\.io offline/,
      },
      {
        fault: "a CRL has ended, and no other one was signed",
        // The leader goes by when it was made, so that it leaves it as it is.
        plant: () => on.world.sql("UPDATE crls SET next_update = now() - interval '1 minute'"),
        heal: () => on.world.sql("UPDATE crls SET next_update = this_update + interval '36 hours'"),
        check: "pki.crls",
        subject: "ClusterIssuer root",
        problem: /its CRL has ended at \d{4}-.*clients refuse its certificates/,
        fix: /publish CRLs.*kubectl describe clusterissuers\.mazevault\.io root/,
      },
      {
        fault: "the OCSP responder is stopped",
        plant: () => on.responder.process.stop(),
        heal: () => on.responder.process.start(),
        check: "ocsp.answers",
        problem: /cannot be reached \(ECONNREFUSED\)/,
        fix: /curl -sv http.*\/ocsp/,
      },
    ])("$fault", (fault) => on.plants(fault));
  });

/** An issuer whose certificate an offline root has signed months ago, with that much of its life left. */
async function certifyFor(on: Installation, leftMs: number): Promise<void> {
  const manifest = (certificate?: string): object => ({
    apiVersion: "mazevault.io/v1",
    kind: "ClusterIssuer",
    metadata: { name: "offline" },
    spec: {
      ca: { subject: { commonName: "offline CA" }, external: certificate === undefined ? {} : { certificate } },
    },
  });
  await on.world.apply(manifest());
  const { status } = await on.world.waitFor(
    KIND,
    "offline",
    undefined,
    (each) => conditionOf(each, "Issued")?.reason === "WaitingForCertificate",
  );
  const { spki } = parseCsr(String(status?.certificateSigningRequest));
  const notBefore = new Date(Date.now() - 90 * DAY_MS);
  const root = await party({ name: "Offline Root", ca: true, template: { notBefore, notAfter: inDays(3_650) } });
  const signed = await party({
    name: "offline CA",
    ca: 0,
    issuer: root,
    key: { spki, signatureAlgorithm: Buffer.alloc(0), sign: () => Promise.reject(new Error("the key is not here")) },
    template: { notBefore, notAfter: new Date(Date.now() + leftMs) },
  });
  await on.world.apply(manifest([signed, root].map((each) => pem("CERTIFICATE", each.certificate)).join("")));
  await on.world.waitReady(KIND, "offline");
}

const inDays = (days: number): Date => new Date(Date.now() + days * DAY_MS);
