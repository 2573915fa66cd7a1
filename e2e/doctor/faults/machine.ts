/** A machine on which the operator runs: its clock, its disk, its limits. */
import { canDumpCore, canMount } from "../../../lab/unwell.ts";
import type { Fault } from "../fault.ts";
import type { Installation } from "../installation.ts";

export const ofTheMachine = (on: Installation): void =>
  describe("of the machine on which it runs", () => {
    afterAll(() => on.unwell.process.stop());

    /** Where this machine can be made so; `npm test` says where it cannot. */
    const fullDisk: Fault = {
      fault: "the disk is nearly full",
      given: () => on.at(on.unwell.restUrl),
      check: "disk",
      status: "warning",
      problem: /^0 MiB are left of the volume of audit\.fileDirectory, \/.*\/audit$/,
      fix: /make it larger, or rotate the files/,
    };
    const coreDumps: Fault = {
      fault: "core dumps are on",
      given: () => on.at(on.unwell.restUrl),
      check: "process.coreDumps",
      status: "warning",
      problem: /core dumps are on \(limit [1-9]\d*\): one holds every key/,
      fix: /ulimit -c 0; exec node operator\.mjs/,
    };

    test.each<Fault>([
      {
        fault: "the operator's clock differs from PostgreSQL's",
        given: () => on.at(on.unwell.restUrl),
        check: "database.clock",
        problem: /the operator's clock is 3\d\d\d s ahead of PostgreSQL's/,
        fix: /timedatectl/,
      },
      {
        fault: "the operator's clock differs from the API server's",
        given: () => on.at(on.unwell.restUrl),
        check: "kubernetes.clock",
        problem: /the operator's clock is 3\d\d\d s ahead of the API server's/,
        fix: /timedatectl/,
      },
      ...(canMount() ? [fullDisk] : []),
      ...(canDumpCore() ? [coreDumps] : []),
    ])("$fault", (fault) => on.plants(fault));
  });
