import { namedUuid } from "./named-uuid.ts";

const UUID_V8 = /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

test("is a UUID of version 8, the same for the same fields of one purpose only", () => {
  const fields = Array.from({ length: 64 }, (_, at) => ["gateway", String(at)]);
  const uuids = fields.map((each) => namedUuid("test", each));
  for (const uuid of uuids) expect(uuid).toMatch(UUID_V8);
  expect(new Set(uuids).size).toBe(fields.length);
  expect(fields.map((each) => namedUuid("test", each))).toEqual(uuids);
  expect(namedUuid("other", ["gateway", "0"])).not.toBe(uuids[0]);
});
