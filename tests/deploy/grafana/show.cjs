// What Grafana's own code makes of a panel: `node show.cjs < panels.json`.
//
// Reads [{panel, frames}] and answers one line of JSON each: the frames after the panel's transformations and field overrides, as
// [{name, unit, values}] with every value as Grafana writes it, and what of the panel Grafana does not know. frames: as the
// Prometheus data source hands them over, [{refId, fields: [{name, type, labels, values}]}]. No Grafana runs: panels are not drawn.
// What it looks for of a browser: the one before it is loaded, the other after, or it would believe to be in one.
globalThis.navigator = { language: 'en-US', languages: ['en-US'] };

const data = require('@grafana/data');
const { firstValueFrom } = require('rxjs');

globalThis.window = {};

const transformations = new Map(Object.values(data.standardTransformers).map((one) => [one.id, one])); // one has two names
data.standardTransformersRegistry.setInit(() =>
  [...transformations.values()].map((transformation) => ({ id: transformation.id, name: transformation.name, transformation: async () => transformation })),
);
data.standardFieldConfigEditorRegistry.setInit(() =>
  ['unit', 'decimals', 'min', 'max', 'noValue', 'mappings', 'thresholds', 'color', 'displayName', 'custom.x'].map((id) => ({
    id, path: id, name: id, override: () => null, editor: () => null, process: (value) => value, shouldApply: () => true, settings: {},
  })),
);
const UNITS = new Set(data.getValueFormats().flatMap((category) => category.submenu.map((unit) => unit.value)));

function unknown(panel) {
  const { defaults = {}, overrides = [] } = panel.fieldConfig ?? {};
  const properties = overrides.flatMap((override) => override.properties);
  const units = [defaults.unit, ...properties.filter((one) => one.id === 'unit').map((one) => one.value)].filter(Boolean);
  const reducers = [...(panel.options?.reduceOptions?.calcs ?? []), ...(panel.options?.legend?.calcs ?? [])];
  return [
    ...units.filter((unit) => !UNITS.has(unit)).map((unit) => `unit ${unit}`),
    ...reducers.filter((reducer) => !data.isReducerID(reducer)).map((reducer) => `reducer ${reducer}`),
    ...properties.filter((one) => !data.standardFieldConfigEditorRegistry.getIfExists(one.id)).map((one) => `override ${one.id}`),
    ...(panel.transformations ?? [])
      .filter((one) => !transformations.has(one.id)).map((one) => `transformation ${one.id}`),
  ];
}

async function shown({ panel, frames }) {
  const made = frames.map((frame) => data.toDataFrame(frame));
  const transformed = await firstValueFrom(data.transformDataFrame(panel.transformations ?? [], made));
  const done = data.applyFieldOverrides({
    data: transformed,
    fieldConfig: panel.fieldConfig ?? { defaults: {}, overrides: [] },
    fieldConfigRegistry: data.standardFieldConfigEditorRegistry,
    replaceVariables: (text) => text,
    theme: data.createTheme(),
    timeZone: 'utc',
  });
  const fields = done.flatMap((frame) => frame.fields.map((field) => ({
    name: data.getFieldDisplayName(field, frame, done),
    unit: field.config.unit ?? null,
    values: Array.from(field.values).map((value) => data.formattedValueToString(field.display(value))),
  })));
  return { fields, unknown: unknown(panel) };
}

(async () => {
  let text = '';
  for await (const piece of process.stdin) text += piece;
  for (const one of JSON.parse(text)) console.log(JSON.stringify(await shown(one)));
})();
