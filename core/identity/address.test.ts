import { clientAddress } from "./address.ts";

test.each([
  ["192.0.2.7", "192.0.2.7"],
  ["::ffff:192.0.2.7", "192.0.2.7"],
  ["::FFFF:192.0.2.7", "192.0.2.7"],
  ["2001:db8::7", "2001:db8::7"],
  ["::ffff:0:192.0.2.7", "::ffff:0:192.0.2.7"],
  [undefined, ""],
])("the client of a socket to %s is %s", (remoteAddress, address) =>
  expect(clientAddress({ remoteAddress })).toBe(address),
);
