/** Unit and contract tests stand beside what they test; e2e/ has its own configuration. */
const swc = [
  "@swc/jest",
  { jsc: { parser: { syntax: "typescript" }, target: "es2024" }, module: { type: "es6" }, sourceMaps: "inline" },
];

export default {
  testEnvironment: "node",
  extensionsToTreatAsEsm: [".ts"],
  transform: { "^.+\\.ts$": swc },
  testMatch: ["<rootDir>/{crds,core,adapters,controllers,operator,lab}/**/*.test.ts"],
  testTimeout: 60_000,
};
