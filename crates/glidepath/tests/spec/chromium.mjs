// Starts Chromium for the checks that drive one.

import { createRequire } from "node:module";
import { join } from "node:path";

/** `folder` has playwright-core in its node_modules, `program` is Chromium. */
export function launch(folder, program) {
  // Nothing here may outlive a test that was given up.
  setTimeout(() => process.exit(2), 120_000).unref();
  const { chromium } = createRequire(join(folder, "package.json"))("playwright-core");
  return chromium.launch({
    executablePath: program,
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--ignore-certificate-errors",
    ],
  });
}

/** What a user sees who looks: the console, and the requests that failed. */
export function complaintsOf(page) {
  const complaints = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(`${message.type()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => complaints.push(`page: ${error}`));
  page.on("requestfailed", (request) => complaints.push(`${request.url()}: ${request.failure().errorText}`));
  return complaints;
}
