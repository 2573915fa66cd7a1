import { Stalled } from "../../core/errors.ts";
import { allowedHost } from "./hosts.ts";
import { access } from "./testing/stand-in.ts";
import { KeyVaults } from "./vaults.ts";

describe("allowedHost", () => {
  it.each([
    "https://a-vault.vault.azure.net/",
    "https://a-vault.vault.azure.cn/",
    "https://a-vault.vault.usgovcloudapi.net/",
  ])("accepts %s", (url) => {
    expect(allowedHost(url, [])).toMatchObject({ custom: false });
  });

  it.each([
    ["another host", "https://vault.example.net/"],
    ["a host that only ends like Azure's", "https://evilvault.azure.net/"],
    ["a label too many", "https://a.b.vault.azure.net/"],
    ["the domain itself", "https://vault.azure.net/"],
    ["Managed HSM, which keeps no secrets", "https://a.managedhsm.azure.net/"],
    ["a port", "https://a.vault.azure.net:8443/"],
    ["a path", "https://a.vault.azure.net/secrets"],
    ["a name and password", "https://a.vault.azure.net@evil.example/"],
    ["plain HTTP", "http://a.vault.azure.net/"],
    ["no URL at all", "a.vault.azure.net"],
  ])("refuses %s", (_, url) => {
    expect(() => allowedHost(url, [])).toThrow(Stalled);
  });

  it("accepts what the installation adds, exact or by one label", () => {
    expect(allowedHost("https://vault.internal/", ["vault.internal"])).toMatchObject({ custom: true });
    expect(allowedHost("https://a.kv.internal/", ["*.kv.internal"])).toMatchObject({ custom: true });
    expect(() => allowedHost("https://a.b.kv.internal/", ["*.kv.internal"])).toThrow(
      /allow-list \(.*\*\.kv\.internal\)/,
    );
  });

  it("is asked before anything else", () => {
    const open = () => new KeyVaults().open(access({ url: "https://vault.example.net" }), "Change");
    expect(open).toThrow(expect.objectContaining({ code: "VaultHostNotAllowed" }));
  });
});
