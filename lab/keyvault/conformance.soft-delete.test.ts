import type { DeletedSecret, SecretClient } from "@azure/keyvault-secrets";
import { all, Conformance, codes, INSTANT } from "./testing/conformance.ts";
import { SECOND_VAULT, VAULT, VAULT_URL } from "./testing/identities.ts";

const suite = new Conformance();
const DAY = 86_400;
// Longer than any test: what is being changed stays so until the setting is changed back.
const ENDLESS = 3_600_000;

beforeAll(() => suite.start());
afterAll(() => suite.dispose());
afterEach(() => suite.lab.control.changeSettings({ transitions: INSTANT }));

async function deleted(client: SecretClient, name: string): Promise<DeletedSecret> {
  await client.setSecret(name, "v", { tags: { kept: "yes" } });
  return (await client.beginDeleteSecret(name)).pollUntilDone();
}

describe("delete", () => {
  it("moves a secret to the deleted ones, with the dates of recovery", async () => {
    // "Azure Key Vault soft-delete overview"; REST reference "Delete Secret": DeletedSecretBundle.
    const client = suite.client();
    const secret = await deleted(client, "gone");
    expect(secret).toMatchObject({ name: "gone", recoveryId: `${VAULT_URL}/deletedsecrets/gone` });
    const at = (secret.deletedOn?.getTime() ?? 0) / 1000;
    expect((secret.scheduledPurgeDate?.getTime() ?? 0) / 1000).toBe(at + 7 * DAY);
    const [byName, listed] = [await suite.call("/deletedsecrets/gone"), await suite.call("/deletedsecrets")];
    expect(byName.body).not.toHaveProperty("value");
    expect(byName.body.tags).toEqual({ kept: "yes" });
    expect(listed.body.value).toContainEqual(
      expect.objectContaining({ id: `${VAULT_URL}/secrets/gone`, recoveryId: `${VAULT_URL}/deletedsecrets/gone` }),
    );
    expect((await suite.call("/secrets/gone")).status).toBe(404);
    expect((await all(client.listPropertiesOfSecrets())).map((each) => each.name)).not.toContain("gone");
    expect((await all(client.listDeletedSecrets())).map((each) => each.name)).toContain("gone");
  });

  it("keeps the name from being used again", async () => {
    // "Azure Key Vault REST API Error Codes", HTTP 409; the body is the service's.
    await deleted(suite.client(), "taken");
    const refused = await suite.call("/secrets/taken", { method: "PUT", body: { value: "v" } });
    expect(refused.status).toBe(409);
    expect(refused.body).toEqual({
      error: {
        code: "Conflict",
        message:
          "Secret taken is currently in a deleted but recoverable state, and its name cannot be reused; " +
          "in this state, the secret can only be recovered or purged.",
        innererror: { code: "ObjectIsDeletedButRecoverable" },
      },
    });
  });

  it("takes a moment, in which the secret is in neither place", async () => {
    // "Azure Key Vault recovery management": the deleted secret appears only when the deletion has gone through.
    await suite.lab.control.changeSettings({ transitions: { deleting: ENDLESS } });
    await suite.client().setSecret("slow", "v");
    expect((await suite.call("/secrets/slow", { method: "DELETE" })).status).toBe(200);
    const pending = await suite.call("/deletedsecrets/slow");
    expect([pending.status, codes(pending)]).toEqual([
      404,
      { code: "SecretNotFound", message: "Deleted Secret not found: slow" },
    ]);
    expect((await suite.call("/secrets/slow")).status).toBe(404);
    expect((await suite.call("/secrets/slow", { method: "DELETE" })).status).toBe(404);
    const again = await suite.call("/secrets/slow", { method: "PUT", body: { value: "w" } });
    expect([again.status, codes(again).inner]).toEqual([409, "ObjectIsBeingDeleted"]);
    const purge = await suite.call("/deletedsecrets/slow", { method: "DELETE" });
    expect([purge.status, codes(purge)]).toEqual([
      409,
      { code: "Conflict", inner: "ObjectIsBeingDeleted", message: "Secret is currently being deleted." },
    ]);
  });

  it("lets the SDK's poller wait for the end", async () => {
    await suite.lab.control.changeSettings({ transitions: { deleting: 50 } });
    const client = suite.client();
    await client.setSecret("polled", "v");
    const poller = await client.beginDeleteSecret("polled", { intervalInMs: 10 });
    expect(await poller.pollUntilDone()).toMatchObject({ name: "polled" });
  });

  it("answers 404 for a secret that is not there", async () => {
    const absent = await suite.call("/secrets/never-there", { method: "DELETE" });
    expect([absent.status, codes(absent).code]).toEqual([404, "SecretNotFound"]);
  });

  it("does not show a deleted secret that is disabled", async () => {
    // The service answers for it as for a disabled one.
    const client = suite.client();
    await client.setSecret("dark", "v", { enabled: false });
    await suite.call("/secrets/dark", { method: "DELETE" });
    const refused = await suite.call("/deletedsecrets/dark");
    expect([refused.status, codes(refused).inner]).toEqual([403, "SecretDisabled"]);
  });
});

describe("recover", () => {
  it("brings back all versions", async () => {
    // REST reference "Recover Deleted Secret".
    const client = suite.client();
    await client.setSecret("back", "one");
    await deleted(client, "back");
    const recovered = await (await client.beginRecoverDeletedSecret("back")).pollUntilDone();
    expect(recovered.name).toBe("back");
    expect((await client.getSecret("back")).value).toBe("v");
    expect(await all(client.listPropertiesOfSecretVersions("back"))).toHaveLength(2);
    expect((await suite.call("/deletedsecrets/back")).status).toBe(404);
  });

  it("takes a moment, in which the secret can be neither read nor set", async () => {
    // The answer to a set is the service's, with ObjectIsBeingRecovered.
    const client = suite.client();
    await deleted(client, "returning");
    await suite.lab.control.changeSettings({ transitions: { recovering: ENDLESS } });
    expect((await suite.call("/deletedsecrets/returning/recover", { method: "POST" })).status).toBe(200);
    expect((await suite.call("/secrets/returning")).status).toBe(404);
    const set = await suite.call("/secrets/returning", { method: "PUT", body: { value: "w" } });
    expect(set.status).toBe(409);
    expect(codes(set)).toEqual({
      code: "Conflict",
      inner: "ObjectIsBeingRecovered",
      message: "Secret returning is currently being recovered and cannot be re-created; retry later.",
    });
  });

  it("may let a secret be read before it can be set", async () => {
    // Seen with the real service: a set right after the recovery poller ends can still meet the recovery.
    const client = suite.client();
    await deleted(client, "settling");
    await suite.lab.control.changeSettings({ transitions: { settling: ENDLESS } });
    await (await client.beginRecoverDeletedSecret("settling")).pollUntilDone();
    expect((await client.getSecret("settling")).value).toBe("v");
    await expect(client.setSecret("settling", "w")).rejects.toMatchObject({ statusCode: 409, code: "Conflict" });
  });

  it("answers 404 for what is not deleted", async () => {
    const refused = await suite.call("/deletedsecrets/never-there/recover", { method: "POST" });
    expect([refused.status, codes(refused).code]).toEqual([404, "SecretNotFound"]);
  });
});

describe("purge", () => {
  it("removes the secret for good and frees its name", async () => {
    // REST reference "Purge Deleted Secret": 204 without a body.
    const client = suite.client();
    await deleted(client, "purged");
    const answer = await suite.call("/deletedsecrets/purged", { method: "DELETE" });
    expect([answer.status, answer.text]).toEqual([204, ""]);
    expect((await suite.call("/deletedsecrets/purged")).status).toBe(404);
    await client.setSecret("purged", "anew");
    expect(await all(client.listPropertiesOfSecretVersions("purged"))).toHaveLength(1);
  });

  it("takes a moment, in which the name is not free yet", async () => {
    await deleted(suite.client(), "leaving");
    await suite.lab.control.changeSettings({ transitions: { purging: ENDLESS } });
    expect((await suite.call("/deletedsecrets/leaving", { method: "DELETE" })).status).toBe(204);
    expect((await suite.call("/deletedsecrets/leaving")).status).toBe(404);
    const set = await suite.call("/secrets/leaving", { method: "PUT", body: { value: "v" } });
    expect([set.status, codes(set).inner]).toEqual([409, "ObjectIsBeingDeleted"]);
  });

  it("happens by itself when the retention is over", async () => {
    // "Azure Key Vault soft-delete overview": the retention period, here seven days.
    const client = suite.client();
    await deleted(client, "forgotten");
    await suite.lab.control.advanceSoftDeleteClock(6.9);
    expect((await suite.call("/deletedsecrets/forgotten")).status).toBe(200);
    await suite.lab.control.advanceSoftDeleteClock(0.2);
    expect((await suite.call("/deletedsecrets/forgotten")).status).toBe(404);
    await client.setSecret("forgotten", "anew");
    await deleted(client, "later");
    expect((await suite.call("/deletedsecrets/later")).status).toBe(200);
  });
});

describe("a vault with purge protection and 90 days", () => {
  it("says so in each secret, and lets nobody purge", async () => {
    // "Azure Key Vault soft-delete overview": purge protection; REST reference, DeletionRecoveryLevel.
    const body = { value: "v" };
    const set = await suite.call("/secrets/protected", { method: "PUT", body }, SECOND_VAULT);
    expect(set.body.attributes).toMatchObject({ recoveryLevel: "Recoverable", recoverableDays: 90 });
    await suite.call("/secrets/protected", { method: "DELETE" }, SECOND_VAULT);
    const purge = await suite.call("/deletedsecrets/protected", { method: "DELETE" }, SECOND_VAULT);
    expect([purge.status, codes(purge).code]).toEqual([403, "Forbidden"]);
    expect((await suite.call("/deletedsecrets/protected", {}, SECOND_VAULT)).status).toBe(200);
  });

  it("keeps its secrets apart from other vaults'", async () => {
    await suite.call("/secrets/apart", { method: "PUT", body: { value: "v" } }, SECOND_VAULT);
    expect((await suite.call("/secrets/apart")).status).toBe(404);
    expect((await suite.call("/secrets", {}, "no-such-vault")).status).toBe(404);
  });
});

describe("backup and restore", () => {
  it("restores every version of a purged secret from a blob that only the service can read", async () => {
    // "Azure Key Vault backup and restore"; REST reference "Backup Secret" and "Restore Secret".
    const client = suite.client();
    await client.setSecret("kept", "one");
    await client.setSecret("kept", "two");
    const blob = await client.backupSecret("kept");
    expect(Buffer.from(blob ?? new Uint8Array()).includes("two")).toBe(false);
    await expect(client.restoreSecretBackup(blob ?? new Uint8Array())).rejects.toMatchObject({ statusCode: 409 });
    await (await client.beginDeleteSecret("kept")).pollUntilDone();
    await client.purgeDeletedSecret("kept");
    expect((await client.restoreSecretBackup(blob ?? new Uint8Array())).name).toBe("kept");
    expect((await client.getSecret("kept")).value).toBe("two");
    expect(await all(client.listPropertiesOfSecretVersions("kept"))).toHaveLength(2);
    await expect(client.restoreSecretBackup(new Uint8Array(64))).rejects.toMatchObject({ code: "BadParameter" });
  });
});

it("shows the control client what is deleted", async () => {
  await deleted(suite.client(), "seen");
  const stored = await suite.lab.control.secrets(VAULT);
  expect(stored.find((each) => each.name === "seen")).toMatchObject({ state: "deleted", versions: [{ value: "v" }] });
});
