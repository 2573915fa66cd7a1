/** What GitOps tools make of an object, by their own judges: kstatus, and gopher-lua, which runs the scripts of Argo CD. */
import { execFile } from "node:child_process";
import path from "node:path";
import { findGoProgram, type PinnedGoProgram } from "../setup/go-program.ts";

const module = path.join(import.meta.dirname, "gomod");

/** `gomod/go.mod` pins kstatus in the same version; another number at the end for another `main.go`. */
export const gitopsJudge: PinnedGoProgram = {
  name: "gitops-judge",
  version: "0.37.2-1",
  module,
  package: ".",
  linkerFlags: "-s -w",
  question: { args: ["--help"], answer: "reads questions" },
};

interface Verdict {
  readonly status: string;
  readonly message: string;
}

export interface Judgement {
  readonly kstatus: Verdict;
  /** Of the script. */
  readonly health: Verdict;
}

interface Answer extends Judgement {
  readonly error?: string;
}

/** @throws where the script or an object is not to be judged, with the reason */
export async function judgeObjects(objects: readonly object[], script: string): Promise<readonly Judgement[]> {
  const file = findGoProgram(gitopsJudge);
  if (file === undefined) throw new Error("there is no gitops-judge; npm test builds it");
  const output = await new Promise<string>((resolve, reject) => {
    const child = execFile(file, { maxBuffer: 64 * 1024 * 1024 }, (error, stdout) =>
      error ? reject(error) : resolve(stdout),
    );
    child.stdin?.end(objects.map((object) => `${JSON.stringify({ object, script })}\n`).join(""));
  });
  const answers = output
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Answer);
  for (const { error } of answers) if (error !== undefined) throw new Error(error);
  return answers;
}
