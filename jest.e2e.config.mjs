import { common } from "./jest.config.mjs";

/** Against the running product; each file has a lab of its own, so they run one after the other. */
export default {
  ...common,
  testMatch: ["<rootDir>/e2e/**/*.test.ts"],
  testTimeout: 180_000,
  maxWorkers: 1,
};
