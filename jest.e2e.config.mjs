import { common } from "./jest.config.mjs";
import { gitopsJudge } from "./lab/gitops/judge.ts";
import { helm } from "./lab/packaging/programs.ts";
import { findOldestPrograms } from "./lab/postgres/programs.ts";
import { hasRedis } from "./lab/redis/redis.ts";
import { findGoProgram } from "./lab/setup/go-program.ts";
import { hasToxiproxy } from "./lab/toxiproxy/toxiproxy.ts";

/**
 * Against the running product; each file has a lab of its own, a copy of the one that `e2e/setup.ts` prepares. Several side
 * by side, since much of the time is spent waiting for leases to end and for pauses between attempts.
 */
export default {
  ...common,
  testMatch: ["<rootDir>/e2e/**/*.test.ts"],
  /** Of what this machine lacks; `npm test` says so. */
  testPathIgnorePatterns: [
    "/node_modules/",
    ...(findGoProgram(gitopsJudge) ? [] : ["/gitops\\.test\\.ts$"]),
    ...(hasRedis() ? [] : ["/rest-replicas\\.test\\.ts$"]),
    ...(findGoProgram(helm) === undefined ? ["/e2e/chart/"] : []),
    ...(findOldestPrograms() === undefined ? ["/e2e/backup\\.test\\.ts$"] : []),
    ...(hasToxiproxy() ? [] : ["/gateway-channel\\.test\\.ts$"]),
  ],
  globalSetup: "<rootDir>/e2e/setup.ts",
  globalTeardown: "<rootDir>/e2e/teardown.ts",
  testTimeout: 180_000,
  maxWorkers: 3,
};
