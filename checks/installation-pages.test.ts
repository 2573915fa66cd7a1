/** What pages print for who installs and runs MazeVault by the chart, held against the chart and the programs. */
import { readFileSync } from "node:fs";
import path from "node:path";
import { parse } from "yaml";
import { OPERATOR_PODS, RESPONDER_PODS } from "../core/diagnosis/logs.ts";
import { configSchema as ocsp } from "../ocsp/config.ts";
import { configSchema as operator } from "../operator/config.ts";
import { pages, root } from "./pages.ts";

const text = (file: string): string => readFileSync(path.join(root, file), "utf8");
const values = parse(text("charts/mazevault/values.yaml"));
const health = operator.parse({}).http.port;

/** Where `kubectl port-forward` leads to, by how pages name it. */
const PORTS: Readonly<Record<string, number>> = {
  POD: health,
  "service/mazevault-rest": values.rest.service.port,
  "service/mazevault-gateway": values.rest.service.port,
  "service/mazevault-ocsp": values.ocsp.service.port,
};

test("a port that a page forwards is one that is listened to, and the address behind it is that port's", () => {
  const lines = pages().flatMap(({ file }) =>
    text(file)
      .split("\n")
      .map((line) => ({ file, line })),
  );
  const forwarded = lines.flatMap(({ file, line }) =>
    [...line.matchAll(/\bport-forward (\S+) (\d+)(?::(\d+))?/g)].map(([, target = "", local, remote = local]) => {
      const addresses = [...line.matchAll(/\bhttps?:\/\/(?:127\.0\.0\.1|localhost):(\d+)/g)].map(([, port]) => port);
      return { file, target, remote: Number(remote), addresses, local };
    }),
  );
  expect(forwarded.length).toBeGreaterThan(3);
  for (const { file, target, remote, addresses, local } of forwarded) {
    expect({ file, target, remote }).toEqual({ file, target, remote: PORTS[target] });
    expect({ file, addresses }).toEqual({ file, addresses: addresses.map(() => local) });
  }
});

test("a page that shows logs asks all replicas, by labels that do not depend on the release's name", () => {
  const shown = pages().flatMap(({ file }) =>
    [...text(file).matchAll(/^kubectl .*\blogs .*$/gm)].map(([command]) => ({ file, command })),
  );
  expect(shown.length).toBeGreaterThan(4);
  const ofAll = [OPERATOR_PODS, RESPONDER_PODS].map((pods) => ` -l '${pods}' --all-containers --prefix --tail=-1 `);
  expect(shown.filter(({ command }) => !ofAll.some((selection) => command.includes(selection)))).toEqual([]);
});

test("certificates of an evaluation name the responder that is installed with it", () => {
  const { baseUrl } = parse(text("charts/mazevault/ci/evaluation-values.yaml")).config.pki;
  const install = /^helm upgrade --install (\S+) .* -n (\S+) .*evaluation-values\.yaml/m;
  const [, release, namespace] = install.exec(text("docs/guides/install-with-helm.md")) ?? [];
  expect(baseUrl).toBe(`http://${release}-ocsp.${namespace}.svc:${values.ocsp.service.port}`);
});

test("the guide says for each release that it installs which registry the image comes from", () => {
  const sections = text("docs/guides/install-with-helm.md").split(/^## /m);
  const installing = sections.filter((section) => /^helm upgrade --install /m.test(section));
  expect(installing).toHaveLength(3);
  const silent = installing.filter((section) => !section.includes("--set image.registry="));
  expect(silent.map((section) => section.split("\n")[0])).toEqual([]);
});

test("the guide says how many connections the replicas open, and how a smaller pool makes them fit", () => {
  const most = (added: number, rest: number, pool = operator.parse({}).database.poolSize): number => {
    const each = pool + 2;
    const ofLeader = 4;
    const responders = (values.ocsp.replicas + added) * (ocsp.parse({}).database.poolSize + 1);
    return (values.operator.replicas + added + rest + added) * each + ofLeader + responders;
  };
  const { replicas, autoscaling } = values.rest;
  const guide = text("docs/guides/install-with-helm.md");
  const rows = [...guide.matchAll(/^\| (?:as they are|with `rest\.autoscaling`).* \| (\d+) \| (\d+) \|$/gm)];
  expect(rows.map(([, running, upgrading]) => [Number(running), Number(upgrading)])).toEqual(
    [replicas, autoscaling.maxReplicas].map((rest) => [most(0, rest), most(1, rest)]),
  );
  const [, pool, makes] = /poolSize=(\d+)` makes it (\d+) during/.exec(guide) ?? [];
  expect(Number(makes)).toBe(most(1, replicas, Number(pool)));
});

interface Schema {
  readonly type?: unknown;
  readonly properties?: Readonly<Record<string, unknown>>;
  readonly items?: unknown;
  readonly additionalProperties?: unknown;
}

/** Whether the chart's schema knows the value at a path as `--set` takes it, such as `a.b\.c[0].d`. */
function isValue(setting: string): boolean {
  let at: unknown = JSON.parse(text("charts/mazevault/values.schema.json"));
  for (const [, name = ""] of setting.matchAll(/\.?((?:\\\.|[^.[\]])+|\[\d+\])/g)) {
    const schema = at as Schema;
    // What Kubernetes knows, and not the chart.
    if (schema.type === undefined) return true;
    at = name.startsWith("[") ? schema.items : (schema.properties?.[name] ?? schema.additionalProperties);
    if (at === undefined || at === false) return false;
  }
  return true;
}

test("every value that a page sets is one of the chart's", () => {
  const set = pages().flatMap(({ file }) =>
    [...text(file).matchAll(/--set (\S+?)=/g)].map(([, setting = ""]) => ({
      file,
      setting: setting.replaceAll(/["']/g, ""),
    })),
  );
  expect(set.length).toBeGreaterThan(20);
  expect(set.filter(({ setting }) => !isValue(setting))).toEqual([]);
  expect(isValue("image.digests")).toBe(false);
});

test("the health ports that runbooks and evidence take are those of the programs", () => {
  expect(ocsp.parse({}).health.port).toBe(health);
  const rows = ["docs/runbooks/README.md", "docs/security/controls.md"].flatMap((file) =>
    [...text(file).matchAll(/^\| `\w+_HEALTH` .*$/gm)].map(([row]) => ({ file, row })),
  );
  expect(rows).toHaveLength(4);
  for (const { file, row } of rows)
    expect({ file, row, ports: [...new Set(row.match(/\b8\d{3}\b/g))] }).toEqual({
      file,
      row,
      ports: [String(health)],
    });
});
