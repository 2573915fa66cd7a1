import { endInOrder, endWithin } from "./shutdown.ts";

let ended: string[];
const ends =
  (name: string, after: Promise<void> = Promise.resolve()) =>
  async (): Promise<void> => {
    await after;
    ended.push(name);
  };
const operator = { resign: ends("operator"), stop: ends("stores") };
const never = (): Promise<void> => new Promise<void>(() => {});

beforeEach(() => {
  ended = [];
});

test("the lease is given up while requests drain, and the stores are closed after both", async () => {
  const { promise: drained, resolve: drain } = Promise.withResolvers<void>();
  const resign = async () => {
    await ends("operator")();
    drain();
  };
  const serving = [ends("rest", drained), () => undefined, ends("fleet")];
  await endInOrder({ serving, operator: { ...operator, resign } });
  expect(ended).toEqual(["operator", "rest", "fleet", "stores"]);
});

test("requests drain while controllers end", async () => {
  const { promise: resigned, resolve: resign } = Promise.withResolvers<void>();
  const rest = async () => {
    await ends("rest")();
    resign();
  };
  await endInOrder({ serving: [rest], operator: { ...operator, resign: ends("operator", resigned) } });
  expect(ended).toEqual(["rest", "operator", "stores"]);
});

test("what fails is told when all else has ended, and nothing is there before the start", async () => {
  const failing = () => Promise.reject(new Error("broken"));
  await expect(endInOrder({ serving: [failing, ends("fleet")], operator })).rejects.toThrow("broken");
  expect(ended).toEqual(["operator", "stores"]);
  await endInOrder({ serving: [() => undefined], operator: undefined });
});

test("what only reads is not waited for without end, nor told when it fails", async () => {
  await endWithin(1, [never(), Promise.reject(new Error("broken"))]);
  await endWithin(1_000_000, [ends("fleet")(), Promise.reject(new Error("broken"))]);
  expect(ended).toEqual(["fleet"]);
});
