import { ApiError } from "../../runtime/api-error.ts";
import { BothSides } from "./testing/both-sides.ts";

const pass = async (sides: BothSides): Promise<readonly string[]> => {
  sides.watch();
  return sides.reconcile();
};

async function conflicting(): Promise<BothSides> {
  const sides = await BothSides.of("PlatformWins");
  await pass(sides);
  sides.letGo(true);
  await pass(sides);
  await sides.stay();
  await sides.write("a", "here");
  sides.edit("a", "there");
  return sides;
}

const decisions = ({ audited }: BothSides): number =>
  audited.filter(({ action }) => action === "SyncConflictDecided").length;

test("a decision is on record once while its write keeps failing, and anew when something else loses", async () => {
  const sides = await conflicting();
  const refuse = (): never => {
    sides.beforeWrite = refuse;
    throw new ApiError({ status: 403, reason: "Forbidden", message: "not now", details: {} });
  };
  sides.beforeWrite = refuse;
  for (let count = 0; count < 3; count++) expect(await pass(sides)).not.toEqual([]);
  expect([sides.there("a"), decisions(sides)]).toEqual(["there", 1]);
  sides.edit("a", "newer there");
  for (let count = 0; count < 3; count++) await pass(sides);
  expect(decisions(sides)).toBe(2);
  sides.beforeWrite = undefined;
  await pass(sides);
  expect([sides.there("a"), decisions(sides)]).toEqual(["here", 2]);
});

test("the same decision after it was carried out is on record again", async () => {
  const sides = await conflicting();
  await pass(sides);
  await sides.write("a", "here again");
  sides.edit("a", "there again");
  await pass(sides);
  expect([sides.there("a"), decisions(sides)]).toEqual(["here again", 2]);
});
