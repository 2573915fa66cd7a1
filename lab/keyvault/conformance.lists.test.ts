import { all, Conformance, codes } from "./testing/conformance.ts";
import { VAULT_URL } from "./testing/identities.ts";
import { API_VERSION, type RawResponse, raw } from "./testing/raw.ts";

const suite = new Conformance();
const NAMES = Array.from({ length: 50 }, (_, index) => `entry-${String(index).padStart(3, "0")}`);

beforeAll(async () => {
  await suite.start();
  const client = suite.client();
  await client.setSecret("entry-000", "v", { contentType: "text/plain", tags: { page: "first" } });
  await Promise.all(NAMES.slice(1).map((name) => client.setSecret(name, "v")));
});
afterAll(() => suite.dispose());

interface Item {
  readonly id: string;
}

const items = (page: RawResponse) => page.body.value as Item[];

/** Follows `nextLink` as a client without the SDK would. */
async function pages(path: string): Promise<RawResponse[]> {
  const token = await suite.token();
  const collected = [await suite.call(path)];
  for (let next = collected[0]?.body.nextLink; typeof next === "string"; next = collected.at(-1)?.body.nextLink) {
    collected.push(await raw(suite.lab.transport, { url: next, token }));
  }
  return collected;
}

it("gives 25 entries a page unless fewer are asked for", async () => {
  // REST reference "Get Secrets": maxresults; the service returns up to 25 if it is not specified.
  const sizes = (await pages("/secrets")).map((page) => items(page).length);
  expect(sizes).toEqual([25, 25]);
  expect((await pages("/secrets?maxresults=20")).map((page) => items(page).length)).toEqual([20, 20, 10]);
});

it("refuses page sizes outside 1 to 25", async () => {
  for (const size of ["0", "26", "-1", "many"]) {
    const refused = await suite.call(`/secrets?maxresults=${size}`);
    expect([refused.status, codes(refused).code]).toEqual([400, "BadParameter"]);
  }
});

it("leads to the next page by an opaque link on the vault's own host, null on the last page", async () => {
  // REST reference, SecretListResult: nextLink.
  const [first, last] = await pages("/secrets");
  const next = new URL(String(first?.body.nextLink));
  expect(next.origin).toBe(VAULT_URL);
  expect(next.searchParams.get("$skiptoken")).toMatch(/^[\w-]+$/);
  expect(next.searchParams.get("api-version")).toBe(API_VERSION);
  expect(last?.body.nextLink).toBeNull();
});

it("refuses a skip token that it did not give", async () => {
  const refused = await suite.call("/secrets?$skiptoken=forged");
  expect([refused.status, codes(refused).code]).toEqual([400, "BadParameter"]);
});

it("lists each secret once, without version and value, in an order that stays", async () => {
  // REST reference "Get Secrets": only the base identifier and the attributes; no versions, no values.
  const client = suite.client();
  const listed = await all(client.listPropertiesOfSecrets());
  expect(listed.map((each) => each.name)).toEqual(NAMES);
  expect(await all(client.listPropertiesOfSecrets())).toEqual(listed);
  const [entry] = items(await suite.call("/secrets?maxresults=1"));
  expect(entry).toEqual({
    id: `${VAULT_URL}/secrets/entry-000`,
    contentType: "text/plain",
    tags: { page: "first" },
    attributes: expect.objectContaining({ enabled: true, created: expect.any(Number), updated: expect.any(Number) }),
  });
});

it("keeps its place when entries before it come and go", async () => {
  const token = await suite.token();
  const first = await suite.call("/secrets?maxresults=10");
  const client = suite.client();
  await client.setSecret("early-bird", "v");
  const second = await raw(suite.lab.transport, { url: String(first.body.nextLink), token });
  await client.beginDeleteSecret("early-bird");
  expect(items(second)[0]?.id).toBe(`${VAULT_URL}/secrets/entry-010`);
});

it("ends with an empty page when the service chooses to", async () => {
  // "nextLink" may lead to a page with no entries; clients must follow it to the end.
  const { control } = suite.lab;
  await control.changeSettings({ emptyLastPage: "always" });
  expect((await pages("/secrets")).map((page) => items(page).length)).toEqual([25, 25, 0]);
  expect(await all(suite.client().listPropertiesOfSecrets())).toHaveLength(50);
  await control.changeSettings({ emptyLastPage: "sometimes" });
  const lengths = [(await pages("/secrets")).length, (await pages("/secrets")).length];
  expect(lengths.sort()).toEqual([2, 3]);
  await control.changeSettings({ emptyLastPage: "never" });
});

it("pages versions too, with values left out, and lists none for an unknown name", async () => {
  // REST reference "Get Secret Versions".
  const client = suite.client();
  for (let index = 0; index < 30; index++) {
    await client.setSecret("entry-049", `v${index}`);
  }
  const listed = await pages("/secrets/entry-049/versions");
  expect(listed.map((page) => items(page).length)).toEqual([25, 6]);
  expect(items(listed[0] as RawResponse)[0]).not.toHaveProperty("value");
  expect(new Set(listed.flatMap(items).map((each) => each.id)).size).toBe(31);
  expect((await suite.call("/secrets/unknown/versions")).body).toEqual({ value: [], nextLink: null });
});

it("lists 1,000 entries in 40 calls", async () => {
  const client = suite.client();
  const names = Array.from({ length: 949 }, (_, index) => `mass-${index}`);
  while (names.length > 0) {
    await Promise.all(names.splice(0, 50).map((name) => client.setSecret(name, "v")));
  }
  // entry-000 to entry-049, mass-0 to mass-948, and one more make 1,000.
  await client.setSecret("mass-last", "v");
  await suite.lab.control.resetCounters();
  expect(await all(client.listPropertiesOfSecrets())).toHaveLength(1_000);
  const { vaults } = await suite.lab.control.counters();
  expect(Object.values(vaults)[0]).toMatchObject({ operations: { SecretList: { 200: 40 } }, valueReads: 0, writes: 0 });
});
