import path from "node:path";
import type { PinnedGoProgram } from "../setup/go-program.ts";

const version = "2.12.0";
const module = "github.com/Shopify/toxiproxy/v2";

/** The program of toxiproxy; go.mod in `gomod/` pins the same version. */
export const toxiproxy: PinnedGoProgram = {
  name: "toxiproxy",
  version,
  module: path.join(import.meta.dirname, "gomod"),
  package: `${module}/cmd/server`,
  linkerFlags: `-s -w -X ${module}.Version=${version}`,
  question: { args: ["--version"], answer: ` ${version}` },
};
