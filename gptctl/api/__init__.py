"""The Python interface behind `import gptctl`: commands as functions, datasets and models as objects."""
