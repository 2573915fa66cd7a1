import type { SecretIdentity } from "../ports/vault-store.ts";
import { isOurs, ownerOf, tagsFor } from "./ownership.ts";
import { INSTALLATION, identity, named } from "./testing/entries.ts";

const entry = named();
const tags = tagsFor({}, INSTALLATION, entry, { intentId: "intent-1" });

test("a secret that was purged and applied again is the owner still, under its new record", () => {
  expect(isOurs(tags, INSTALLATION, named({ secretId: "id-again" }))).toBe(true);
});

test.each<[string, Partial<SecretIdentity>]>([
  ["of another name", { name: "invoices" }],
  ["of another environment", { environment: "dev" }],
  ["of another project", { project: "shop" }],
  ["in another namespace", { namespace: "shop" }],
  ["in a namespace that was made anew", { namespaceUid: "uid-again" }],
  ["whose fields run over into each other", { project: "paymentspro", environment: "" }],
])("a secret %s is not", (_, change) => {
  const other = named({ secretId: "id-other", owner: ownerOf({ ...identity, ...change }) });
  expect(isOurs(tags, INSTALLATION, other)).toBe(false);
});

test("another key is not, nor is another installation", () => {
  expect(isOurs(tags, INSTALLATION, named({ key: "user" }))).toBe(false);
  expect(isOurs(tags, "installation-2", entry)).toBe(false);
});
