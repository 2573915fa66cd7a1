import { configSchema } from "./config.ts";

const problems = (redis: object): readonly string[] =>
  (configSchema.safeParse({ redis }).error?.issues ?? []).map(({ path, message }) => `${path.join(".")}: ${message}`);

test.each<[string, object, readonly RegExp[]]>([
  ["none", {}, []],
  ["one that is named", { url: "rediss://redis.example.com:6379/2" }, []],
  ["one that Sentinels tell", { url: "rediss://mymaster", sentinels: ["a.example.com:26379", "[fd00::1]:26379"] }, []],
  ["a password", { url: "rediss://user:secret@redis.example.com" }, [/^redis\.url: must hold no password/]],
  ["Sentinels without the name", { sentinels: ["a:1"] }, [/^redis\.url: must name the primary .* rediss:\/\/mymaster/]],
  ["Sentinels, and a port", { url: "rediss://mymaster:6379", sentinels: ["a:1"] }, [/^redis\.url: must have no port/]],
  [
    "Sentinels without ports",
    { url: "rediss://mymaster", sentinels: ["a"] },
    [/^redis\.sentinels\.0: must be HOST:PORT/],
  ],
  ["a password of nobody", { url: "rediss://a", sentinelPasswordFile: "/p" }, [/^redis\.sentinels: must name/]],
])("Redis: %s", (_what, redis, expected) => {
  expect(problems(redis)).toEqual(expected.map((each) => expect.stringMatching(each)));
});
