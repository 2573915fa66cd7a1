import { Unavailable } from "../../core/errors.ts";
import type { CertificateRecord } from "../../core/ports/pki-store.ts";
import type { CertificateRequest } from "../../crds/certificaterequest.ts";
import type { Action } from "./decide.ts";
import { CertificateRequestPerformer, type CertificateRequestPerformerDependencies } from "./perform.ts";

const request = { metadata: { name: "web", namespace: "shop", uid: "uid", generation: 1 } } as CertificateRequest;
const record = { authorityId: "ca", serialNumber: "3f0a" } as CertificateRecord;
const revocations: readonly Action[] = [
  { kind: "Revoke", request, record, reason: "superseded" },
  { kind: "ReleaseHold", request, record },
];

const performer = (error: Error): CertificateRequestPerformer => {
  const refuse = () => Promise.reject(error);
  return new CertificateRequestPerformer({
    authorities: { revoke: refuse, release: refuse },
    writer: () => ({ epoch: 1n }),
  } as unknown as CertificateRequestPerformerDependencies);
};

test.each(revocations)(
  "$kind that the primary refuses for good is an outcome, any other failure is thrown",
  async (action) => {
    const message = "the primary refuses: not signed for this gateway";
    const refused = performer(new Unavailable("SerialNumberUnknown", message));
    expect(await refused.perform(action)).toEqual({ kind: "NotChanged", message });
    const away = performer(new Unavailable("PrimaryUnreachable", "no answer"));
    await expect(away.perform(action)).rejects.toMatchObject({ code: "PrimaryUnreachable" });
  },
);
