/** Unit and contract tests stand beside what they test; e2e/ has its own configuration. */
import { oasdiff } from "./lab/oasdiff/program.ts";
import { findKubernetesSchemas } from "./lab/packaging/kubernetes-schemas.ts";
import { chartPrograms, helm } from "./lab/packaging/programs.ts";
import { findOldestPrograms } from "./lab/postgres/programs.ts";
import { findGoProgram } from "./lab/setup/go-program.ts";
import { findMermaid } from "./lab/setup/mermaid.ts";
import { findKeytool } from "./lab/setup/needs.ts";
import { findPackage, testPackages } from "./lab/setup/packages.ts";
import { checkov, findPythonTool, squawk } from "./lab/setup/python-tool.ts";
import { hasToxiproxy } from "./lab/toxiproxy/toxiproxy.ts";

const swc = [
  "@swc/jest",
  { jsc: { parser: { syntax: "typescript" }, target: "es2024" }, module: { type: "es6" }, sourceMaps: "inline" },
];

export const common = {
  rootDir: import.meta.dirname,
  testEnvironment: "node",
  extensionsToTreatAsEsm: [".ts"],
  transform: { "^.+\\.ts$": swc },
};

const oldest = findOldestPrograms();
const judgesOfCharts = [
  ...chartPrograms.map((each) => findGoProgram(each)),
  findKubernetesSchemas(),
  findPythonTool(checkov),
];
/** Tests of what this machine lacks; `npm test` says so. */
const impossible = [
  ...(findKeytool() === undefined ? ["/keystore\\.test\\.ts$", "/judges/keystores\\.test\\.ts$"] : []),
  ...(findPackage(testPackages.nginx) === undefined ? ["/judges/stapling\\.test\\.ts$"] : []),
  ...(findPackage(testPackages["redis-server"]) === undefined ? ["/adapters/redis/"] : []),
  ...(hasToxiproxy() ? [] : ["/lab/toxiproxy/"]),
  ...(findPackage(testPackages.prometheus) === undefined ? ["/checks/(alerts|dashboards)\\.test\\.ts$"] : []),
  ...(findGoProgram(helm) === undefined ? ["/cdk8s/installation\\.test\\.ts$"] : []),
  ...(findMermaid() === undefined ? ["/checks/pictures\\.test\\.ts$"] : []),
  ...(findGoProgram(oasdiff) === undefined ? ["/checks/compatibility/rest\\.test\\.ts$"] : []),
  ...(findPythonTool(squawk) === undefined ? ["/checks/compatibility/migrations\\.test\\.ts$"] : []),
  ...(judgesOfCharts.includes(undefined) ? ["/checks/chart\\.test\\.ts$"] : []),
  ...(findGoProgram(helm) === undefined ? ["/checks/(gitops|identities|compatibility/values)\\.test\\.ts$"] : []),
];

const unit = {
  ...common,
  globalSetup: "<rootDir>/adapters/postgres/testing/setup.ts",
  globalTeardown: "<rootDir>/adapters/postgres/testing/teardown.ts",
};

export default {
  testTimeout: 60_000,
  maxWorkers: "100%",
  projects: [
    {
      ...unit,
      testMatch: [
        "<rootDir>/{crds,core,program,adapters,controllers,operator,ocsp,cli,cdk8s,charts,lab,checks}/**/*.test.ts",
      ],
      testPathIgnorePatterns: ["/node_modules/", ...impossible],
    },
    // What the oldest version may take otherwise, its SQL, again; `npm test` says so where this machine cannot have it.
    ...(oldest === undefined
      ? []
      : [
          {
            ...unit,
            displayName: "PostgreSQL 15",
            testMatch: [
              "<rootDir>/adapters/postgres/{contracts,diagnosis,fencing,idempotency,identity,migrate,outbox,pki}.test.ts",
              "<rootDir>/adapters/rotation/database-roles.test.ts",
            ],
            globals: { postgresPrograms: oldest },
          },
        ]),
  ],
};
