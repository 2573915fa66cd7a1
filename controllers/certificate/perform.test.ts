import { Unavailable } from "../../core/errors.ts";
import type { CertificateRecord } from "../../core/ports/pki-store.ts";
import type { Certificate } from "../../crds/certificate.ts";
import type { Action } from "./decide.ts";
import { CertificatePerformer, type CertificatePerformerDependencies } from "./perform.ts";

const certificate = { metadata: { name: "web", namespace: "shop", uid: "uid", generation: 1 } } as Certificate;
const record = { authorityId: "ca", serialNumber: "3f0a" } as CertificateRecord;
const signal = new AbortController().signal;
const revocations: readonly Action[] = [
  { kind: "Revoke", certificate, record, reason: "superseded" },
  { kind: "ReleaseHold", certificate, record },
];

const performer = (error: Error): CertificatePerformer => {
  const refuse = () => Promise.reject(error);
  return new CertificatePerformer({
    authorities: { revoke: refuse, release: refuse },
    writer: () => ({ epoch: 1n }),
  } as unknown as CertificatePerformerDependencies);
};

test.each(revocations)(
  "$kind that the primary refuses for good is an outcome, any other failure is thrown",
  async (action) => {
    const refused = performer(
      new Unavailable("SerialNumberUnknown", "the primary refuses: not signed for this gateway"),
    );
    expect(await refused.perform(action, signal)).toEqual({
      kind: "NotChanged",
      record,
      message: "the primary refuses: not signed for this gateway",
    });
    const away = performer(new Unavailable("PrimaryUnreachable", "no answer"));
    await expect(away.perform(action, signal)).rejects.toMatchObject({ code: "PrimaryUnreachable" });
  },
);
