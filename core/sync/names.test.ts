import fc from "fast-check";
import type { SourceEntry } from "../ports/sync-store.ts";
import { checkNames, entryNames } from "./names.ts";
import { identity, item, RULE, source } from "./testing/entries.ts";

const nameOf = (change: Partial<SourceEntry>, pattern?: string) =>
  entryNames([source(change)], identity, { pattern })[0]?.entryName;

describe("entryNames", () => {
  it.each([
    [
      "the default pattern joins both with two dashes",
      { secretName: "orders", key: "password" },
      undefined,
      "orders--password",
    ],
    ["dots and underscores become dashes", { secretName: "a.b", key: "TLS_KEY.pem" }, undefined, "a-b--TLS-KEY-pem"],
    [
      "a pattern may turn them round",
      { secretName: "orders", key: "user" },
      "pro-{key}-of-{secret}",
      "pro-user-of-orders",
    ],
    [
      "what stands in braces in a value is not filled in again",
      { secretName: "key", key: "a" },
      "{secret}-{key}",
      "key-a",
    ],
  ])("%s", (_, change, pattern, expected) => {
    expect(nameOf(change, pattern)).toBe(expected);
  });

  it("takes a mapping as it is, before the pattern", () => {
    const mappings = [{ secret: "orders", key: "password", name: "DbPassword" }];
    const [mapped, other] = entryNames([source(), source({ key: "user" })], identity, { mappings });
    expect(mapped?.entryName).toBe("DbPassword");
    expect(other?.entryName).toBe("orders--user");
  });
});

describe("checkNames", () => {
  const check = (sources: readonly SourceEntry[], holders = [] as ReturnType<typeof item>[]) =>
    checkNames(entryNames(sources, identity, {}), holders, RULE);

  it("refuses a name over 127 characters and names the fix", () => {
    const { entries, failures } = check([source({ key: "k".repeat(127) })]);
    expect(entries).toEqual([]);
    expect(failures).toMatchObject([{ secret: "orders", reason: "TargetNameInvalid" }]);
    expect(failures[0]?.message).toMatch(
      /has 135 characters; Key Vault accepts 127; add spec\.mappings with secret: orders/,
    );
  });

  it("refuses characters that Key Vault does not accept", () => {
    const sources = [source({ secretName: "orders", key: "ключ" })];
    expect(check(sources).failures).toMatchObject([{ reason: "TargetNameInvalid" }]);
  });

  it("refuses both of two entries with one name, and each names the other", () => {
    const { entries, failures } = check([source({ key: "db.user" }), source({ key: "DB_user" })]);
    expect(entries).toEqual([]);
    expect(failures.map((each) => each.reason)).toEqual(["TargetNameCollision", "TargetNameCollision"]);
    expect(failures[0]?.message).toContain("for orders/db.user and for orders/DB_user");
    expect(failures[1]?.message).toContain("for orders/DB_user and for orders/db.user");
  });

  it("lets the entry stay that has the name already, and refuses only the newcomer", () => {
    const sources = [source({ key: "db.user" }), source({ key: "db_user" })];
    const { entries, failures } = check(sources, [item({ key: "db.user", entryName: "orders--db-user" })]);
    expect(entries.map((entry) => entry.key)).toEqual(["db.user"]);
    expect(failures).toMatchObject([{ key: "db_user", reason: "TargetNameCollision" }]);
    expect(failures[0]?.message).toContain("for orders/db.user, which holds it already");
  });

  it("refuses a name that another rule holds for another secret, and tells no more than its id", () => {
    const { failures } = check([source()], [item({ secretId: "id-other", key: "k", ruleUid: "rule-2" })]);
    expect(failures[0]?.message).toContain("another secret (id id-other, key k) that holds it already");
  });

  it("accepts a name that another rule holds for the same secret and key", () => {
    expect(check([source()], [item({ ruleUid: "rule-2" })]).failures).toEqual([]);
  });

  it("accepts a name whose holder got another name from this rule, or left it", () => {
    expect(check([source()], [item({ secretId: "id-gone" })]).failures).toEqual([]);
    const swapped = [item({ key: "user", entryName: "orders--password" })];
    expect(check([source(), source({ key: "user" })], swapped).failures).toEqual([]);
  });

  it("never lets two entries through with names that Key Vault cannot tell apart", () => {
    const part = fc.string({ unit: fc.constantFrom("a", "B", "b", ".", "_", "-"), minLength: 1, maxLength: 4 });
    const sources = fc.uniqueArray(
      fc
        .record({ secretName: part, key: part })
        .map(({ secretName, key }) => source({ secretId: secretName, secretName, key })),
      { selector: (each) => `${each.secretName}/${each.key}` },
    );
    fc.assert(
      fc.property(sources, (all) => {
        const { entries, failures } = check(all);
        const names = entries.map((entry) => entry.entryName.toLowerCase());
        expect(new Set(names).size).toBe(names.length);
        expect(names.every((name) => /^[0-9a-z-]{1,127}$/.test(name))).toBe(true);
        expect(entries.length + failures.length).toBe(all.length);
      }),
    );
  });
});
