import { expect, test } from "@jest/globals";
import { API_VERSION } from "../../crds/common.ts";
import type { GatewayEnvironment } from "../../crds/gatewayenvironment.ts";
import { rememberedEpoch } from "./remembered-epoch.ts";

const object = (name: string, environment: string, epoch?: number): GatewayEnvironment => ({
  apiVersion: API_VERSION,
  kind: "GatewayEnvironment",
  metadata: { name, uid: name, resourceVersion: "1" },
  spec: { environment, primaryRef: { name: "gw-1" }, standbyRef: { name: "gw-2" } },
  ...(epoch !== undefined && { status: { epoch } }),
});
const values = () => [object("npr", "NPR", 3), object("npr-2", "NPR", 7), object("pro", "PRO")].values();

test("the newest of those that are for the environment counts", () => {
  const cache = { synced: true, values };
  expect(["NPR", "PRO", "DEV"].map((each) => rememberedEpoch(cache, each))).toEqual([7n, 0n, undefined]);
});

test("nothing is said while they are not in sight: nobody is granted anything then", () => {
  for (const cache of [undefined, { synced: false, values }]) {
    expect(() => rememberedEpoch(cache, "NPR")).toThrow("which environments there are is not known yet");
  }
});
