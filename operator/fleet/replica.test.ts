import type { ObjectMeta } from "../../crds/common.ts";
import { whenAnother } from "./replica.ts";

const META = { name: "shop", uid: "u", resourceVersion: "1", generation: 1, labels: { a: "1", b: "2" } } as ObjectMeta;

test.each<[string, Partial<ObjectMeta>, boolean]>([
  ["a status", { resourceVersion: "2" }, false],
  ["an annotation", { resourceVersion: "2", annotations: { a: "b" } }, false],
  ["the order of labels", { labels: { b: "2", a: "1" } }, false],
  ["a label", { labels: { a: "2" } }, true],
  ["the spec", { generation: 2 }, true],
  ["its being deleted", { deletionTimestamp: "2026-03-19T10:00:00Z" }, true],
  ["the whole object", { uid: "v" }, true],
])("what gateways may have is judged anew for what may count: %s", (_what, change, isTold) => {
  let told = 0;
  const changed = whenAnother(() => {
    told += 1;
  });
  changed("added", { metadata: META });
  changed("updated", { metadata: { ...META, ...change } });
  expect(told).toBe(isTold ? 2 : 1);
  changed("deleted", { metadata: META });
  changed("added", { metadata: META });
  expect(told).toBe(isTold ? 4 : 3);
});
