# docker build -t itae_jax .
# docker run --rm --user "$(id -u)" -v "$PWD:/data" itae_jax fit photos/good --out model
FROM python:3.13-slim
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore HOME=/tmp
COPY requirements.txt /src/
RUN pip install -r /src/requirements.txt
# For an NVIDIA GPU, with docker run --gpus all:
# RUN pip install -c /src/requirements.txt 'jax[cuda13]'
COPY . /src
RUN pip install --no-deps /src && useradd itae
USER itae
WORKDIR /data
ENTRYPOINT ["itae"]
