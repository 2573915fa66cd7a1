/** Unit and contract tests stand beside what they test; e2e/ has its own configuration. */
import { findOldestPrograms } from "./lab/postgres/programs.ts";

const swc = [
  "@swc/jest",
  { jsc: { parser: { syntax: "typescript" }, target: "es2024" }, module: { type: "es6" }, sourceMaps: "inline" },
];

export const common = {
  testEnvironment: "node",
  extensionsToTreatAsEsm: [".ts"],
  transform: { "^.+\\.ts$": swc },
};

const oldest = findOldestPrograms();

export default {
  testTimeout: 60_000,
  projects: [
    { ...common, testMatch: ["<rootDir>/{crds,core,program,adapters,controllers,operator,ocsp,lab}/**/*.test.ts"] },
    // The same tests again; `npm test` says so where this machine cannot have it.
    ...(oldest === undefined
      ? []
      : [
          {
            ...common,
            displayName: "PostgreSQL 15",
            testMatch: ["<rootDir>/adapters/postgres/*.test.ts"],
            globals: { postgresPrograms: oldest },
          },
        ]),
  ],
};
