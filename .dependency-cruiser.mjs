/** Which room may look into which; see CONTRIBUTING.md. Tests may look anywhere. */
const test = "(\\.test\\.ts|\\.contract\\.ts|/testing/.*)$";
const all = [
  "crds",
  "core",
  "program",
  "adapters",
  "controllers",
  "operator",
  "ocsp",
  "cli",
  "cdk8s",
  "build",
  "lab",
  "e2e",
  "bench",
  "charts",
  "checks",
  "deploy",
];
const room = (name) => ({ path: `^${name}/`, pathNot: test });
const only = (name, rooms, comment) => ({
  name: `${name}-imports`,
  comment,
  severity: "error",
  from: room(name),
  to: { path: `^(${all.filter((other) => other !== name && !rooms.includes(other)).join("|")})/` },
});
const packagesOf = (name, packages, comment) => ({
  name: `${name}-packages`,
  comment,
  severity: "error",
  from: room(name),
  // What a room's own package.json does not name is npm-no-pkg.
  to: {
    dependencyTypes: ["npm", "npm-dev", "npm-optional", "npm-peer", "npm-no-pkg"],
    pathNot: `node_modules/(${packages.join("|")})/`,
  },
});

export default {
  forbidden: [
    {
      name: "no-cycle",
      severity: "error",
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
    },
    {
      name: "no-orphan",
      severity: "error",
      // Jest finds its sequencer by name.
      from: {
        orphan: true,
        pathNot: "(\\.config\\.mjs|^\\.dependency-cruiser\\.mjs|\\.d\\.ts|^lab/setup/.*|^checks/longest-first\\.mjs)$",
      },
      to: {},
    },
    { name: "resolvable", severity: "error", from: {}, to: { couldNotResolve: true } },
    only("crds", [], "what users write depends on nothing"),
    only("core", ["crds"], "what MazeVault knows, without any SDK"),
    only("adapters", ["core", "crds"], "one port each"),
    only("program", ["core", "crds"], "what every program has"),
    only("controllers", ["program", "core", "crds"], "the outside comes through ports"),
    only("operator", ["adapters", "controllers", "program", "core", "crds"], "composes everything"),
    only("ocsp", ["adapters", "program", "core", "crds"], "knows nothing of Kubernetes"),
    only("cli", ["program", "core", "crds"], "speaks REST, and knows nothing of what is behind it"),
    only("charts", ["operator", "ocsp", "crds"], "what is installed says what the programs can be told"),
    only("cdk8s", [], "is packed alone"),
    packagesOf("crds", ["zod", "yaml"], "schemas, and their generation"),
    packagesOf(
      "core",
      [
        "@hpke/core",
        "@hyperjump/json-pointer",
        "bcryptjs",
        "croner",
        "jose",
        "liquidjs",
        "secure-password-utilities",
        "zod",
      ],
      "no SDK in the core",
    ),
    packagesOf(
      "controllers",
      ["@kubernetes/client-node", "@dot-i/k8s-operator", "undici", "prom-client"],
      "Kubernetes only",
    ),
    packagesOf("program", ["zod", "yaml", "pino", "prom-client"], "settings, logs, metrics"),
    packagesOf("cli", ["commander", "tar-stream", "undici", "yaml", "zod"], "a command line needs little"),
    packagesOf("cdk8s", ["cdk8s", "constructs"], "what its users have installed"),
    packagesOf("ocsp", ["zod", "prom-client"], "a responder needs little"),
    {
      name: "one-file-for-the-operator-package",
      comment: "its watch loop must not spread",
      severity: "error",
      from: { pathNot: "^controllers/runtime/operator\\.ts$" },
      to: { path: "node_modules/@dot-i/k8s-operator/" },
    },
  ],
  options: {
    parser: "swc",
    tsPreCompilationDeps: true,
    doNotFollow: { path: "node_modules" },
    exclude: { path: "^(dist|\\.mazevault|cdk8s/(dist|examples))/" },
    enhancedResolveOptions: {
      extensions: [".ts", ".mjs", ".js"],
      exportsFields: ["exports"],
      conditionNames: ["import", "node", "default", "types"],
    },
  },
};
