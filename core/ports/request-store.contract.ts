import { createHash, randomUUID } from "node:crypto";
import type { AuditEntry, AuditLog } from "./audit-log.ts";
import type { NamedRequest, RequestStore } from "./request-store.ts";

/** What all stores of requests do. `start` gives one that knows none, and the audit log beside it. */
export function requestStoreContract(
  start: () => Promise<{ readonly store: RequestStore; readonly audit: AuditLog }>,
): void {
  let store: RequestStore;
  let audit: AuditLog;

  beforeEach(async () => {
    ({ store, audit } = await start());
  });

  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  const request = (id: string, asked = "write"): NamedRequest => ({ id: digest(id), fingerprint: digest(asked) });
  const at = (ms: number) => new Date(Date.parse("2026-03-01T10:00:00Z") + ms);
  const LEASE = 1_000;
  const KEPT = 60_000;

  const begin = async (of: NamedRequest, ms: number) => {
    const attempt = randomUUID();
    const standing = await store.begin(of, {
      attempt,
      at: at(ms),
      leaseUntil: at(ms + LEASE),
      expiresAt: at(ms + KEPT),
    });
    return { attempt, standing };
  };
  const change = (attempt: string): AuditEntry => ({
    action: "UserChanged",
    actor: { kind: "Subject", subject: "LocalUser alice@example.com", via: "Token", session: "s", attempt },
    subject: { kind: "User", id: "bob", name: "bob" },
    outcome: "Success",
    details: {},
  });

  test("the first begins, those beside it wait, and afterwards all get its answer", async () => {
    const all = await Promise.all(Array.from({ length: 20 }, () => begin(request("a"), 0)));
    const begun = all.filter(({ standing }) => standing.outcome === "Begun");
    expect(begun).toHaveLength(1);
    expect(all.filter(({ standing }) => standing.outcome === "InProgress")).toHaveLength(19);
    const [{ attempt } = { attempt: "" }] = begun;
    expect(await store.answer(attempt, Buffer.from("done"))).toBe(true);
    expect((await begin(request("a"), KEPT - 1)).standing).toEqual({
      outcome: "Answered",
      attempt,
      answer: Buffer.from("done"),
    });
    expect((await begin(request("b"), 0)).standing).toEqual({ outcome: "Begun" });
  });

  test("a key says one thing, whether that is answered or under way, until it expires", async () => {
    const { attempt } = await begin(request("a"), 0);
    expect((await begin(request("a", "delete"), 1)).standing).toEqual({ outcome: "Reused" });
    expect((await begin(request("a", "delete"), LEASE + 1)).standing).toEqual({ outcome: "Reused" });
    await store.answer(attempt, Buffer.from("done"));
    expect((await begin(request("a", "delete"), 2)).standing).toEqual({ outcome: "Reused" });
    expect((await begin(request("a", "delete"), KEPT)).standing).toEqual({ outcome: "Begun" });
  });

  test("what changed nothing is taken over when its time is up, and can change nothing afterwards", async () => {
    const slow = await begin(request("a"), 0);
    expect((await begin(request("a"), LEASE - 1)).standing).toEqual({ outcome: "InProgress", until: at(LEASE) });
    const next = await begin(request("a"), LEASE);
    expect(next.standing).toEqual({ outcome: "Begun" });
    await expect(audit.append([change(slow.attempt)])).rejects.toThrow();
    expect(await store.answer(slow.attempt, Buffer.from("late"))).toBe(false);
    await store.release(slow.attempt, at(LEASE + 1));
    await audit.append([change(next.attempt)]);
    expect(await store.answer(next.attempt, Buffer.from("done"))).toBe(true);
    expect((await audit.read({}, undefined, 10)).filter(({ entry }) => entry.action === "UserChanged")).toHaveLength(1);
  });

  test("what changed something and left no answer is not done again", async () => {
    const { attempt } = await begin(request("a"), 0);
    await audit.append([change(attempt)]);
    expect((await begin(request("a"), 1)).standing).toMatchObject({ outcome: "InProgress" });
    expect((await begin(request("a"), LEASE)).standing).toEqual({ outcome: "Unknown" });
    expect(await store.answer(attempt, Buffer.from("late, and true"))).toBe(true);
    expect((await begin(request("a"), LEASE)).standing).toMatchObject({ outcome: "Answered" });
  });

  test("one that ends without an answer is forgotten, unless it changed something", async () => {
    const failed = await begin(request("a"), 0);
    await store.release(failed.attempt, at(1));
    const again = await begin(request("a", "something else"), 2);
    expect(again.standing).toEqual({ outcome: "Begun" });
    await audit.append([change(again.attempt)]);
    await store.release(again.attempt, at(3));
    expect((await begin(request("a", "something else"), 3)).standing).toEqual({ outcome: "Unknown" });
  });

  test("the record does not name attempts", async () => {
    const { attempt } = await begin(request("a"), 0);
    await audit.append([change(attempt)]);
    const [row] = (await audit.read({}, undefined, 10)).filter(({ entry }) => entry.action === "UserChanged");
    const { actor } = change(attempt);
    expect(row?.entry.actor).toEqual({ ...actor, attempt: undefined });
    expect(await audit.verify()).toMatchObject({ ok: true });
  });

  test("what expired is forgotten, a batch at a time", async () => {
    for (const id of ["a", "b", "c"]) await begin(request(id), 0);
    await begin(request("young"), 100);
    expect([await store.forget(at(KEPT + 1), 2), await store.forget(at(KEPT + 1), 2)]).toEqual([2, 1]);
    expect(await store.forget(at(KEPT + 1), 2)).toBe(0);
  });
}
