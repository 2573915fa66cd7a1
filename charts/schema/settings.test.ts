import { readFileSync } from "node:fs";
import path from "node:path";
import { SECRET_SETTINGS } from "../../operator/operational-secrets/settings.ts";

test("the chart names the vault of every setting that names an entry, and asks for it", () => {
  const template = readFileSync(path.join(import.meta.dirname, "../mazevault/templates/_settings.tpl"), "utf8");
  const [, entries = ""] = template.split('define "mazevault.vaultEntries"');
  const listed = [...entries.matchAll(/\}\}config\.([\w.]+)$/gm)].map(([, setting]) => setting);
  expect(listed.toSorted()).toEqual([...SECRET_SETTINGS].toSorted());
  for (const [, places = "", setting = ""] of entries.matchAll(/dig ((?:"\w+" )+)"" \$config \}\}config\.([\w.]+)$/gm))
    expect(places.replaceAll('"', "").trim().split(" ").join(".")).toBe(setting);
});
