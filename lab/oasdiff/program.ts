import path from "node:path";
import type { PinnedGoProgram } from "../setup/go-program.ts";

const version = "1.38.0";
const module = "github.com/oasdiff/oasdiff";

/** Tells what one OpenAPI document takes away from the users of another; `gomod/go.mod` pins the same version. */
export const oasdiff: PinnedGoProgram = {
  name: "oasdiff",
  version,
  module: path.join(import.meta.dirname, "gomod"),
  package: module,
  linkerFlags: `-s -w -X ${module}/build.Version=${version}`,
  question: { args: ["--version"], answer: version },
};
