import type { AuditEntry } from "../ports/audit-log.ts";
import { type LoginFailure, LoginFailures } from "./login-failures.ts";

const failure = (change: Partial<LoginFailure> = {}): LoginFailure => ({
  reason: "WrongPassword",
  name: "digest of alice",
  user: { id: "id", email: "alice@example.com" },
  address: "192.0.2.7",
  ...change,
});

/** A record that can be told to fail. */
function record() {
  const rows: AuditEntry[] = [];
  const state = { failing: false };
  const append = async (entries: readonly AuditEntry[]): Promise<void> => {
    if (state.failing) throw new Error("full");
    rows.push(...entries);
  };
  return { rows, state, append };
}

test("the first is on record at once, those like it as their number when the interval ends by itself", async () => {
  const { rows, append } = record();
  const failures = new LoginFailures({ append }, 20);
  for (let count = 0; count < 5; count += 1) await failures.add(failure());
  expect(rows).toEqual([
    {
      action: "LoginFailed",
      actor: { kind: "Subject", subject: "Anonymous", via: "Password", session: "", address: "192.0.2.7" },
      subject: { kind: "User", id: "id", name: "alice@example.com" },
      outcome: "Denied",
      details: { reason: "WrongPassword", attempts: 1 },
    },
  ]);
  while (rows.length < 2) await new Promise(setImmediate);
  expect(rows[1]?.details).toEqual({ reason: "WrongPassword", attempts: 4 });
  await failures.add(failure());
  expect(rows[2]?.details).toEqual({ reason: "WrongPassword", attempts: 1 });
});

test("another reason, name or address is another row, an unknown user is not named", async () => {
  const { rows, append } = record();
  const failures = new LoginFailures({ append }, 60_000);
  const { user: _, ...unknown } = failure({ reason: "UnknownUser", name: "digest of a mistyped password" });
  for (const each of [failure(), failure({ address: "192.0.2.8" }), failure({ reason: "UserDisabled" }), unknown]) {
    await failures.add(each);
  }
  expect(rows).toHaveLength(4);
  expect(rows[3]?.subject).toEqual({ kind: "User", id: "unknown", name: "unknown" });
  expect(JSON.stringify(rows)).not.toContain("digest");
});

test("what cannot be written fails who is the first, and stays counted otherwise", async () => {
  const { rows, state, append } = record();
  const failures = new LoginFailures({ append }, 60_000);
  state.failing = true;
  await expect(failures.add(failure())).rejects.toThrow("full");
  state.failing = false;
  await failures.add(failure());
  await failures.add(failure());
  state.failing = true;
  await expect(failures.flush()).rejects.toThrow("full");
  await failures.add(failure());
  state.failing = false;
  await failures.flush();
  expect(rows.map(({ details }) => details.attempts)).toEqual([1, 2]);
});
