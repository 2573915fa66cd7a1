import unit from "../jest.config.mjs";
import e2e from "../jest.e2e.config.mjs";

/** All tests in one run, so that those beside the code have the processors while those against the product wait. */
const { testTimeout, maxWorkers, ...running } = e2e;

export default {
  testTimeout,
  maxWorkers,
  testSequencer: "<rootDir>/longest-first.mjs",
  projects: [...unit.projects, running],
};
